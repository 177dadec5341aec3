//! From decoded x87 instructions to handlers.

use iced_x86::{Code, Instruction};

use super::{control, run};
use crate::op::{Handler, Op};

/// Chooses a handler for an x87 instruction.
pub(crate) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let code = insn.code();
    basic(code)
        .or_else(|| compare(code, op))
        .or_else(|| stack(code))
        .or_else(|| constant(code, op))
        .or_else(|| transcendental(code))
        .or_else(|| memory(code))
        .or_else(|| controls(code))
}

/// Lists a row of the opcode map in all its forms.
macro_rules! rows {
    ($code:ident: $($k:literal $s:ident $d:ident $i32:ident $i16:ident $st0:ident $sti:ident $pop:ident;)*) => {
        match $code {
            $(
                Code::$s => run::basic_m::<$k, run::Single>,
                Code::$d => run::basic_m::<$k, run::Double>,
                Code::$i32 => run::basic_m::<$k, run::Int32>,
                Code::$i16 => run::basic_m::<$k, run::Int16>,
                Code::$st0 | Code::$sti => run::basic::<$k, false>,
                Code::$pop => run::basic::<$k, true>,
            )*
            _ => return None,
        }
    };
}

fn basic(code: Code) -> Option<Handler> {
    Some(rows! { code:
        0 Fadd_m32fp Fadd_m64fp Fiadd_m32int Fiadd_m16int Fadd_st0_sti Fadd_sti_st0 Faddp_sti_st0;
        1 Fmul_m32fp Fmul_m64fp Fimul_m32int Fimul_m16int Fmul_st0_sti Fmul_sti_st0 Fmulp_sti_st0;
        4 Fsub_m32fp Fsub_m64fp Fisub_m32int Fisub_m16int Fsub_st0_sti Fsub_sti_st0 Fsubp_sti_st0;
        5 Fsubr_m32fp Fsubr_m64fp Fisubr_m32int Fisubr_m16int Fsubr_st0_sti Fsubr_sti_st0 Fsubrp_sti_st0;
        6 Fdiv_m32fp Fdiv_m64fp Fidiv_m32int Fidiv_m16int Fdiv_st0_sti Fdiv_sti_st0 Fdivp_sti_st0;
        7 Fdivr_m32fp Fdivr_m64fp Fidivr_m32int Fidivr_m16int Fdivr_st0_sti Fdivr_sti_st0 Fdivrp_sti_st0;
    })
}

fn compare(code: Code, op: &mut Op) -> Option<Handler> {
    use Code::*;
    use run::{Double, Int16, Int32, Single, compare, compare_flags, compare_m, conditional};
    if matches!(code, Fcompp | Fucompp) {
        op.src = 1;
    }
    Some(match code {
        Fcom_m32fp => compare_m::<Single, 0>,
        Fcomp_m32fp => compare_m::<Single, 1>,
        Fcom_m64fp => compare_m::<Double, 0>,
        Fcomp_m64fp => compare_m::<Double, 1>,
        Ficom_m32int => compare_m::<Int32, 0>,
        Ficomp_m32int => compare_m::<Int32, 1>,
        Ficom_m16int => compare_m::<Int16, 0>,
        Ficomp_m16int => compare_m::<Int16, 1>,
        Fcom_st0_sti | Fcom_st0_sti_DCD0 => compare::<false, 0>,
        Fcomp_st0_sti | Fcomp_st0_sti_DCD8 | Fcomp_st0_sti_DED0 => compare::<false, 1>,
        Fcompp => compare::<false, 2>,
        Fucom_st0_sti => compare::<true, 0>,
        Fucomp_st0_sti => compare::<true, 1>,
        Fucompp => compare::<true, 2>,
        Fcomi_st0_sti => compare_flags::<false, 0>,
        Fcomip_st0_sti => compare_flags::<false, 1>,
        Fucomi_st0_sti => compare_flags::<true, 0>,
        Fucomip_st0_sti => compare_flags::<true, 1>,
        Fcmovb_st0_sti => conditional::<0>,
        Fcmove_st0_sti => conditional::<1>,
        Fcmovbe_st0_sti => conditional::<2>,
        Fcmovu_st0_sti => conditional::<3>,
        Fcmovnb_st0_sti => conditional::<4>,
        Fcmovne_st0_sti => conditional::<5>,
        Fcmovnbe_st0_sti => conditional::<6>,
        Fcmovnu_st0_sti => conditional::<7>,
        Ftst => run::test,
        _ => return None,
    })
}

fn stack(code: Code) -> Option<Handler> {
    use Code::*;
    Some(match code {
        Fld_sti => run::load_st,
        Fst_sti => run::store_st,
        Fstpnce_sti => run::store_st_pop_unchecked,
        Fstp_sti | Fstp_sti_DFD0 | Fstp_sti_DFD8 => run::store_st_pop,
        Fxch_st0_sti | Fxch_st0_sti_DDC8 | Fxch_st0_sti_DFC8 => run::exchange,
        Ffree_sti => run::free,
        Ffreep_sti => run::free_pop,
        Fchs => run::negate,
        Fabs => run::absolute,
        Fxam => run::examine,
        Fsqrt => run::square_root,
        Frndint => run::round,
        Fprem => run::remainder,
        Fprem1 => run::remainder_nearest,
        Fscale => run::scale,
        Fxtract => run::extract,
        Fincstp => run::turn_up,
        Fdecstp => run::turn_down,
        Fnop | Wait => run::wait,
        _ => return None,
    })
}

fn constant(code: Code, op: &mut Op) -> Option<Handler> {
    use Code::*;
    const ORDER: [Code; 7] = [Fld1, Fldl2t, Fldl2e, Fldpi, Fldlg2, Fldln2, Fldz];
    op.aux = ORDER.iter().position(|&c| c == code)? as u32;
    Some(run::constant)
}

fn transcendental(code: Code) -> Option<Handler> {
    use Code::*;
    Some(match code {
        F2xm1 => run::transcendental::<0>,
        Fyl2x => run::transcendental::<1>,
        Fptan => run::transcendental::<2>,
        Fpatan => run::transcendental::<3>,
        Fyl2xp1 => run::transcendental::<4>,
        Fsincos => run::transcendental::<5>,
        Fsin => run::transcendental::<6>,
        Fcos => run::transcendental::<7>,
        _ => return None,
    })
}

fn memory(code: Code) -> Option<Handler> {
    use Code::*;
    use run::*;
    Some(match code {
        Fld_m32fp => load_short::<Single>,
        Fld_m64fp => load_short::<Double>,
        Fld_m80fp => load_whole,
        Fbld_m80bcd => load_decimal,
        Fild_m16int => load_int::<Int16>,
        Fild_m32int => load_int::<Int32>,
        Fild_m64int => load_int::<Int64>,
        Fst_m32fp => store_single::<false>,
        Fstp_m32fp => store_single::<true>,
        Fst_m64fp => store_double::<false>,
        Fstp_m64fp => store_double::<true>,
        Fstp_m80fp => store_whole,
        Fbstp_m80bcd => store_decimal,
        Fist_m16int => store_int::<16, false, false>,
        Fist_m32int => store_int::<32, false, false>,
        Fistp_m16int => store_int::<16, true, false>,
        Fistp_m32int => store_int::<32, true, false>,
        Fistp_m64int => store_int::<64, true, false>,
        Fisttp_m16int => store_int::<16, true, true>,
        Fisttp_m32int => store_int::<32, true, true>,
        Fisttp_m64int => store_int::<64, true, true>,
        _ => return None,
    })
}

fn controls(code: Code) -> Option<Handler> {
    use Code::*;
    use control::*;
    Some(match code {
        Fninit => init,
        Fnclex => clear_exceptions,
        Fnstcw_m2byte => store_control,
        Fldcw_m2byte => load_control,
        Fnstsw_m2byte => store_status,
        Fnstsw_AX => status_to_ax,
        Fnstenv_m14byte => store_environment::<false>,
        Fnstenv_m28byte => store_environment::<true>,
        Fldenv_m14byte => load_environment::<false>,
        Fldenv_m28byte => load_environment::<true>,
        Fnsave_m94byte => save::<false>,
        Fnsave_m108byte => save::<true>,
        Frstor_m94byte => restore::<false>,
        Frstor_m108byte => restore::<true>,
        Fneni | Fndisi | Fnsetpm => crate::exec::moves::nop,
        _ => return None,
    })
}
