//! Debian's programs against what they print on a real riscv64 kernel (testdata/e2e/).

use crate::case;

/// A test for each case.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                case::check(stringify!($name));
            }
        )*

        #[test]
        fn every_case_has_a_test() {
            let mut listed = vec![$(stringify!($name)),*];
            listed.sort_unstable();
            assert_eq!(listed, case::names());
        }
    };
}

cases! {
    cgroups_files,
    cgroups_memory,
    files_find,
    files_ls_long,
    files_mapped,
    files_of_the_root,
    futex_pi,
    hello_dynamic,
    hello_static,
    kernel_threads,
    maps_dynamic_sv39,
    maps_dynamic_sv48,
    maps_dynamic_sv57,
    maps_of_a_shell_and_child,
    maps_static_sv39,
    maps_static_sv48,
    maps_static_sv57,
    memory_calls,
    memory_huge,
    memory_many_children,
    memory_settings,
    pressure_triggers,
    proc_forms,
    proc_self,
    proc_stat,
    program_archives,
    program_bash,
    program_openssl,
    program_procps,
    program_python,
    program_python_processes,
    program_sqlite,
    program_stress,
    program_text,
    robust_code_and_stacks,
    robust_many,
    shell_200_forks,
    shell_exec_errors,
    shell_here_documents,
    shell_pipes,
    shell_redirections,
    shell_subshells,
    shell_wait_and_signals,
    sockets_bad_buffers,
    sockets_many_messages,
    swap_files,
    tasks_core_dump,
    tasks_pidfd,
    tasks_signalfd,
    tasks_timers,
    text_tools,
}
