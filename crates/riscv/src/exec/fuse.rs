//! Handlers that do two operations at once.
//!
//! A fused handler takes the place of the first operation's own; both operations stay where they are, with
//! their operands, and the second keeps its handler. So wherever a fused handler cannot go on (a
//! line is missing, an access faults) it hands over to the slow path of the operation concerned, as if
//! nothing had been fused. It saves the jump between the two, and where the second one reads what
//! the first one writes, the wait for the register to come back from memory ([`Wire`]).
//!
//! Which pairs there are follows what compilers emit most: address arithmetic before an access, constants
//! and arithmetic before a branch, loads before arithmetic.

use super::alu::{self, Step};
use super::flow::{self, Condition, Far, Near, Reach, offset};
use super::memory::{Load, Sign, Zero, load_slow, read_hit, store_slow, write_hit};
use super::run;
use crate::block::{Jump, Part};
use crate::decode::Kind;
use crate::host::Int;
use crate::op::{Account, Handler, Op, OpRef};
use crate::state::Core;
use core::marker::PhantomData;

/// An operation that can be part of a fused one.
trait Unit: 'static {
    /// Whether there is an `rd`.
    const WRITES: bool;
    /// Does it, with `a` for `rs1` and `b` for `rs2`: the value of `rd`; `None`, and nothing
    /// done, when it takes the slow path.
    fn fast(core: &mut Core, op: Op, a: u64, b: impl FnOnce(&Core) -> u64, pc: u64) -> Option<u64>;
    /// The slow path of the operation `at`.
    fn slow(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account;
}

struct Alu<S>(PhantomData<S>);
struct Get<L>(PhantomData<L>);
struct Put<I>(PhantomData<I>);

impl<S: Step> Unit for Alu<S> {
    const WRITES: bool = true;
    #[inline(always)]
    fn fast(core: &mut Core, op: Op, a: u64, b: impl FnOnce(&Core) -> u64, pc: u64) -> Option<u64> {
        Some(S::value(op, a, || b(core), pc))
    }
    fn slow(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        alu::step::<S>(core, at, account, pc)
    }
}

impl<L: Load> Unit for Get<L> {
    const WRITES: bool = true;
    #[inline(always)]
    fn fast(
        core: &mut Core,
        op: Op,
        a: u64,
        _b: impl FnOnce(&Core) -> u64,
        _pc: u64,
    ) -> Option<u64> {
        let host = read_hit::<L::Int>(core, offset(a, op.imm))?;
        Some(L::extend(L::Int::load(host)))
    }
    #[inline(always)]
    fn slow(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        load_slow::<L>(core, at, account, pc)
    }
}

impl<I: Int> Unit for Put<I> {
    const WRITES: bool = false;
    #[inline(always)]
    fn fast(
        core: &mut Core,
        op: Op,
        a: u64,
        b: impl FnOnce(&Core) -> u64,
        _pc: u64,
    ) -> Option<u64> {
        let host = write_hit::<I>(core, offset(a, op.imm))?;
        I::store(host, I::from_u64(b(core)));
        Some(0)
    }
    #[inline(always)]
    fn slow(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        store_slow::<I>(core, at, account, pc)
    }
}

/// How the second operation gets what the first one writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wiring {
    /// Not at all, or through the register.
    Apart,
    /// As `rs1`.
    First,
    /// As `rs1`, and overwrites it: the register need not be written in between.
    FirstOver,
    /// As `rs2`.
    Second,
}

/// A [`Wiring`], known when the handler is compiled.
trait Wire: 'static {
    const WIRING: Wiring;
}

struct Apart;
struct First;
struct FirstOver;
struct Second;

impl Wire for Apart {
    const WIRING: Wiring = Wiring::Apart;
}
impl Wire for First {
    const WIRING: Wiring = Wiring::First;
}
impl Wire for FirstOver {
    const WIRING: Wiring = Wiring::FirstOver;
}
impl Wire for Second {
    const WIRING: Wiring = Wiring::Second;
}

impl Wiring {
    fn of(first: Op, second: Op) -> Self {
        let rd = first.rd;
        match (second.rs1 == rd, second.rs2 == rd) {
            (true, false) if second.rd == rd => Self::FirstOver,
            (true, _) => Self::First,
            (false, true) => Self::Second,
            (false, false) => Self::Apart,
        }
    }
}

#[inline(always)]
fn rs1<W: Wire>(core: &Core, op: Op, value: u64) -> u64 {
    match W::WIRING {
        Wiring::First | Wiring::FirstOver => value,
        Wiring::Apart | Wiring::Second => core.x(op.rs1),
    }
}

#[inline(always)]
fn rs2<W: Wire>(core: &Core, op: Op, value: u64) -> u64 {
    if matches!(W::WIRING, Wiring::Second) { value } else { core.x(op.rs2) }
}

fn pair<S: Unit, T: Unit, W: Wire>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
) -> Account {
    let (op, next) = (at.op(), at.next());
    let Some(value) = S::fast(core, op, core.x(op.rs1), |core| core.x(op.rs2), pc) else {
        return S::slow(core, at, account, pc);
    };
    let is_over = matches!(W::WIRING, Wiring::FirstOver);
    if S::WRITES && !is_over {
        core.set(op.rd, value);
    }
    let second = next.op();
    let a = rs1::<W>(core, second, value);
    let Some(result) = T::fast(core, second, a, |core| rs2::<W>(core, second, value), pc) else {
        if is_over {
            core.set(op.rd, value);
        }
        return T::slow(core, next, account, pc);
    };
    if T::WRITES {
        core.set(second.rd, result);
    }
    run(core, next.next(), account, pc)
}

fn then_branch<S: Unit, C: Condition, W: Wire>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
) -> Account {
    let (op, next) = (at.op(), at.next());
    let Some(value) = S::fast(core, op, core.x(op.rs1), |core| core.x(op.rs2), pc) else {
        return S::slow(core, at, account, pc);
    };
    core.set(op.rd, value);
    let second = next.op();
    if C::holds(rs1::<W>(core, second, value), rs2::<W>(core, second, value)) {
        Near::go(core, next.next(), account, offset(pc, second.imm))
    } else {
        run(core, next.next().next(), account, pc)
    }
}

/// A jump as the end of a fused handler.
trait Leave: 'static {
    fn leave(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account;
}

struct Goto<R>(PhantomData<R>);
struct Jal<R>(PhantomData<R>);
struct Jalr;

impl<R: Reach> Leave for Goto<R> {
    #[inline(always)]
    fn leave(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        flow::goto::<R>(core, at, account, pc)
    }
}

impl<R: Reach> Leave for Jal<R> {
    #[inline(always)]
    fn leave(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        flow::jal::<R>(core, at, account, pc)
    }
}

impl Leave for Jalr {
    #[inline(always)]
    fn leave(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
        flow::jalr(core, at, account, pc)
    }
}

fn then_leave<S: Unit, J: Leave>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let (op, next) = (at.op(), at.next());
    let Some(value) = S::fast(core, op, core.x(op.rs1), |core| core.x(op.rs2), pc) else {
        return S::slow(core, at, account, pc);
    };
    if S::WRITES {
        core.set(op.rd, value);
    }
    J::leave(core, next, account, pc)
}

/// Replaces handlers by those that do several operations.
pub(crate) fn fuse(parts: &mut [Part]) {
    let mut i = 0;
    while i + 1 < parts.len() {
        let (first, second) = (parts[i], parts[i + 1]);
        match fused(first, second) {
            Some(run) => {
                parts[i].op.run = run;
                i += 2;
            }
            None => i += 1,
        }
    }
}

/// The second of two operations.
#[derive(Clone, Copy)]
struct Follower {
    part: Part,
    wiring: Wiring,
}

fn fused(first: Part, second: Part) -> Option<Handler> {
    let kind = first.kind.filter(|_| first.leaves.is_none())?;
    let second = Follower { part: second, wiring: Wiring::of(first.op, second.op) };
    match kind {
        Kind::Lui => after::<Alu<alu::Li>>(second),
        Kind::Addi => after::<Alu<alu::Addi>>(second),
        Kind::Addiw => after::<Alu<alu::Addiw>>(second),
        Kind::Andi => after::<Alu<alu::Andi>>(second),
        Kind::Slli => after::<Alu<alu::Slli>>(second),
        Kind::Srli => after::<Alu<alu::Srli>>(second),
        Kind::Slliw => after::<Alu<alu::Slliw>>(second),
        Kind::Srliw => after::<Alu<alu::Srliw>>(second),
        Kind::Add => after::<Alu<alu::Add>>(second),
        Kind::Sub => after::<Alu<alu::Sub>>(second),
        Kind::Addw => after::<Alu<alu::Addw>>(second),
        Kind::Xor => after::<Alu<alu::Xor>>(second),
        Kind::Or => after::<Alu<alu::Or>>(second),
        Kind::And => after::<Alu<alu::And>>(second),
        Kind::Lbu => after::<Get<Zero<u8>>>(second),
        Kind::Lw => after::<Get<Sign<u32>>>(second),
        Kind::Ld => after::<Get<Zero<u64>>>(second),
        Kind::Sw => after_store::<Put<u32>>(second.part),
        Kind::Sd => after_store::<Put<u64>>(second.part),
        _ => None,
    }
}

fn after<S: Unit>(second: Follower) -> Option<Handler> {
    if let Some(jump) = second.part.jump {
        return Some(jumping::<S>(jump));
    }
    let wiring = second.wiring;
    Some(match second.part.kind? {
        Kind::Lui => pair::<S, Alu<alu::Li>, Apart>,
        Kind::Addi => one_source::<S, Alu<alu::Addi>>(wiring),
        Kind::Addiw => one_source::<S, Alu<alu::Addiw>>(wiring),
        Kind::Andi => one_source::<S, Alu<alu::Andi>>(wiring),
        Kind::Slli => one_source::<S, Alu<alu::Slli>>(wiring),
        Kind::Srli => one_source::<S, Alu<alu::Srli>>(wiring),
        Kind::Slliw => one_source::<S, Alu<alu::Slliw>>(wiring),
        Kind::Srliw => one_source::<S, Alu<alu::Srliw>>(wiring),
        Kind::Add => two_sources::<S, Alu<alu::Add>>(wiring),
        Kind::Sub => two_sources::<S, Alu<alu::Sub>>(wiring),
        Kind::Addw => two_sources::<S, Alu<alu::Addw>>(wiring),
        Kind::Xor => two_sources::<S, Alu<alu::Xor>>(wiring),
        Kind::Or => two_sources::<S, Alu<alu::Or>>(wiring),
        Kind::And => two_sources::<S, Alu<alu::And>>(wiring),
        Kind::Lbu => one_source::<S, Get<Zero<u8>>>(wiring),
        Kind::Lw => one_source::<S, Get<Sign<u32>>>(wiring),
        Kind::Ld => one_source::<S, Get<Zero<u64>>>(wiring),
        Kind::Sb => store::<S, Put<u8>>(wiring),
        Kind::Sw => store::<S, Put<u32>>(wiring),
        Kind::Sd => store::<S, Put<u64>>(wiring),
        Kind::Beq => condition::<S, flow::Eq>(wiring),
        Kind::Bne => condition::<S, flow::Ne>(wiring),
        Kind::Blt => condition::<S, flow::Lt>(wiring),
        Kind::Bge => condition::<S, flow::Ge>(wiring),
        Kind::Bltu => condition::<S, flow::LtU>(wiring),
        Kind::Bgeu => condition::<S, flow::GeU>(wiring),
        _ => return None,
    })
}

/// A store writes no register: what follows it takes nothing from it.
fn after_store<S: Unit>(second: Part) -> Option<Handler> {
    if let Some(jump) = second.jump {
        return Some(jumping::<S>(jump));
    }
    Some(match second.kind? {
        Kind::Lui => pair::<S, Alu<alu::Li>, Apart>,
        Kind::Addi => pair::<S, Alu<alu::Addi>, Apart>,
        Kind::Lw => pair::<S, Get<Sign<u32>>, Apart>,
        Kind::Ld => pair::<S, Get<Zero<u64>>, Apart>,
        Kind::Sw => pair::<S, Put<u32>, Apart>,
        Kind::Sd => pair::<S, Put<u64>, Apart>,
        _ => return None,
    })
}

fn jumping<S: Unit>(jump: Jump) -> Handler {
    match jump {
        Jump::GotoNear => then_leave::<S, Goto<Near>>,
        Jump::GotoFar => then_leave::<S, Goto<Far>>,
        Jump::JalNear => then_leave::<S, Jal<Near>>,
        Jump::JalFar => then_leave::<S, Jal<Far>>,
        Jump::Jalr => then_leave::<S, Jalr>,
    }
}

fn one_source<S: Unit, T: Unit>(wiring: Wiring) -> Handler {
    match wiring {
        Wiring::Apart | Wiring::Second => pair::<S, T, Apart>,
        Wiring::First => pair::<S, T, First>,
        Wiring::FirstOver => pair::<S, T, FirstOver>,
    }
}

fn two_sources<S: Unit, T: Unit>(wiring: Wiring) -> Handler {
    match wiring {
        Wiring::Second => pair::<S, T, Second>,
        wiring => one_source::<S, T>(wiring),
    }
}

fn store<S: Unit, T: Unit>(wiring: Wiring) -> Handler {
    match wiring {
        Wiring::Apart => pair::<S, T, Apart>,
        Wiring::First | Wiring::FirstOver => pair::<S, T, First>,
        Wiring::Second => pair::<S, T, Second>,
    }
}

fn condition<S: Unit, C: Condition>(wiring: Wiring) -> Handler {
    match wiring {
        Wiring::Apart => then_branch::<S, C, Apart>,
        Wiring::First | Wiring::FirstOver => then_branch::<S, C, First>,
        Wiring::Second => then_branch::<S, C, Second>,
    }
}
