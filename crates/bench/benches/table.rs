//! Prints the rows of docs/performance.md: contestants take turns within one run.
//!
//! `cargo bench -p kilburn-bench --bench table [-- WORD...]`: rows whose name holds a word.

use kilburn_bench::rows;

const ROUNDS: usize = 15;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(&**word));
    println!("| work | who | ns, median | ns, least | time / ours | goal |");
    println!("|---|---|---|---|---|---|");
    for row in rows::all().iter().filter(|row| wanted(row.name)) {
        let times = row.compete(ROUNDS);
        for (place, time) in times.iter().enumerate() {
            let goal = match (place, row.goal_ns) {
                (0, Some(goal)) if time.median <= goal => format!("{goal} met"),
                (0, Some(goal)) => format!("{goal} MISSED"),
                _ => String::new(),
            };
            println!(
                "| {} | {} | {:.1} | {:.1} | {:.2} | {goal} |",
                row.name, time.name, time.median, time.least, time.ratio
            );
        }
    }
    for row in rows::threads::rows().iter().filter(|row| wanted(row.name)) {
        let ratio = row.measure(ROUNDS);
        let verdict = if ratio >= row.goal { "met" } else { "MISSED" };
        println!("| {}, 2 threads | ours | | | {ratio:.2}x | {} {verdict} |", row.name, row.goal);
    }
}
