//! Which handler does what an instruction asks for.

use super::alu::{self, step};
use super::atomic::{self, amo, lr, sc};
use super::float::{self, exact, rounded};
use super::flow::{self, branch};
use super::memory::{Boxed, Sign, Zero, load, store};
use crate::decode::Kind;
use crate::op::Handler;

/// The handler of a plain instruction: one that goes on with the next. `None` for those that may
/// leave the block, and for those that `block` gives a form of its own.
#[rustfmt::skip]
pub(crate) fn plain(kind: Kind) -> Option<Handler> {
    use Kind::*;
    Some(match kind {
        Lui => step::<alu::Li>, Auipc => step::<alu::PcPlus>,
        Lb => load::<Sign<u8>>, Lh => load::<Sign<u16>>, Lw => load::<Sign<u32>>,
        Ld => load::<Zero<u64>>,
        Lbu => load::<Zero<u8>>, Lhu => load::<Zero<u16>>, Lwu => load::<Zero<u32>>,
        Sb => store::<u8>, Sh => store::<u16>, Sw => store::<u32>, Sd => store::<u64>,
        Addi => step::<alu::Addi>, Slti => step::<alu::Slti>, Sltiu => step::<alu::Sltiu>,
        Xori => step::<alu::Xori>, Ori => step::<alu::Ori>, Andi => step::<alu::Andi>,
        Slli => step::<alu::Slli>, Srli => step::<alu::Srli>, Srai => step::<alu::Srai>,
        Addiw => step::<alu::Addiw>, Slliw => step::<alu::Slliw>,
        Srliw => step::<alu::Srliw>, Sraiw => step::<alu::Sraiw>,
        Add => step::<alu::Add>, Sub => step::<alu::Sub>, Sll => step::<alu::Sll>,
        Slt => step::<alu::Slt>, Sltu => step::<alu::Sltu>, Xor => step::<alu::Xor>,
        Srl => step::<alu::Srl>, Sra => step::<alu::Sra>, Or => step::<alu::Or>,
        And => step::<alu::And>,
        Addw => step::<alu::Addw>, Subw => step::<alu::Subw>, Sllw => step::<alu::Sllw>,
        Srlw => step::<alu::Srlw>, Sraw => step::<alu::Sraw>,
        Mul => step::<alu::Mul>, Mulh => step::<alu::Mulh>, Mulhsu => step::<alu::Mulhsu>,
        Mulhu => step::<alu::Mulhu>, Div => step::<alu::Div>, Divu => step::<alu::Divu>,
        Rem => step::<alu::Rem>, Remu => step::<alu::Remu>, Mulw => step::<alu::Mulw>,
        Divw => step::<alu::Divw>, Divuw => step::<alu::Divuw>, Remw => step::<alu::Remw>,
        Remuw => step::<alu::Remuw>,
        LrW => lr::<u32>, ScW => sc::<u32>, LrD => lr::<u64>, ScD => sc::<u64>,
        AmoswapW => amo::<u32, atomic::Swap>, AmoaddW => amo::<u32, atomic::Add>,
        AmoxorW => amo::<u32, atomic::Xor>, AmoandW => amo::<u32, atomic::And>,
        AmoorW => amo::<u32, atomic::Or>, AmominW => amo::<u32, atomic::Min>,
        AmomaxW => amo::<u32, atomic::Max>, AmominuW => amo::<u32, atomic::MinU>,
        AmomaxuW => amo::<u32, atomic::MaxU>,
        AmoswapD => amo::<u64, atomic::Swap>, AmoaddD => amo::<u64, atomic::Add>,
        AmoxorD => amo::<u64, atomic::Xor>, AmoandD => amo::<u64, atomic::And>,
        AmoorD => amo::<u64, atomic::Or>, AmominD => amo::<u64, atomic::Min>,
        AmomaxD => amo::<u64, atomic::Max>, AmominuD => amo::<u64, atomic::MinU>,
        AmomaxuD => amo::<u64, atomic::MaxU>,
        Flw => load::<Boxed>, Fld => load::<Zero<u64>>, Fsw => store::<u32>, Fsd => store::<u64>,
        FmaddS => rounded::<float::MaddS>, FmsubS => rounded::<float::MsubS>,
        FnmsubS => rounded::<float::NmsubS>, FnmaddS => rounded::<float::NmaddS>,
        FaddS => rounded::<float::AddS>, FsubS => rounded::<float::SubS>,
        FmulS => rounded::<float::MulS>, FdivS => rounded::<float::DivS>,
        FsqrtS => rounded::<float::SqrtS>,
        FsgnjS => exact::<float::SgnjS>, FsgnjnS => exact::<float::SgnjnS>,
        FsgnjxS => exact::<float::SgnjxS>, FminS => exact::<float::MinS>,
        FmaxS => exact::<float::MaxS>, FeqS => exact::<float::EqS>, FltS => exact::<float::LtS>,
        FleS => exact::<float::LeS>, FclassS => exact::<float::ClassS>,
        FcvtWS => rounded::<float::CvtWS>, FcvtWuS => rounded::<float::CvtWuS>,
        FcvtLS => rounded::<float::CvtLS>, FcvtLuS => rounded::<float::CvtLuS>,
        FcvtSW => rounded::<float::CvtSW>, FcvtSWu => rounded::<float::CvtSWu>,
        FcvtSL => rounded::<float::CvtSL>, FcvtSLu => rounded::<float::CvtSLu>,
        FmvXW => exact::<float::MvXW>, FmvWX => exact::<float::MvWX>,
        FmaddD => rounded::<float::MaddD>, FmsubD => rounded::<float::MsubD>,
        FnmsubD => rounded::<float::NmsubD>, FnmaddD => rounded::<float::NmaddD>,
        FaddD => rounded::<float::AddD>, FsubD => rounded::<float::SubD>,
        FmulD => rounded::<float::MulD>, FdivD => rounded::<float::DivD>,
        FsqrtD => rounded::<float::SqrtD>,
        FsgnjD => exact::<float::SgnjD>, FsgnjnD => exact::<float::SgnjnD>,
        FsgnjxD => exact::<float::SgnjxD>, FminD => exact::<float::MinD>,
        FmaxD => exact::<float::MaxD>, FeqD => exact::<float::EqD>, FltD => exact::<float::LtD>,
        FleD => exact::<float::LeD>, FclassD => exact::<float::ClassD>,
        FcvtWD => rounded::<float::CvtWD>, FcvtWuD => rounded::<float::CvtWuD>,
        FcvtLD => rounded::<float::CvtLD>, FcvtLuD => rounded::<float::CvtLuD>,
        FcvtDW => rounded::<float::CvtDW>, FcvtDWu => rounded::<float::CvtDWu>,
        FcvtDL => rounded::<float::CvtDL>, FcvtDLu => rounded::<float::CvtDLu>,
        FmvXD | FmvDX => exact::<float::Mv>,
        FcvtSD => rounded::<float::CvtSD>, FcvtDS => rounded::<float::CvtDS>,
        Jal | Jalr | Beq | Bne | Blt | Bge | Bltu | Bgeu | Fence | Ecall | Ebreak
        | Csrrw | Csrrs | Csrrc | Csrrwi | Csrrsi | Csrrci | Illegal => return None,
    })
}

/// The handler of a conditional branch.
pub(crate) fn conditional<R: flow::Reach>(kind: Kind) -> Option<Handler> {
    Some(match kind {
        Kind::Beq => branch::<flow::Eq, R>,
        Kind::Bne => branch::<flow::Ne, R>,
        Kind::Blt => branch::<flow::Lt, R>,
        Kind::Bge => branch::<flow::Ge, R>,
        Kind::Bltu => branch::<flow::LtU, R>,
        Kind::Bgeu => branch::<flow::GeU, R>,
        _ => return None,
    })
}
