//! The kernel's own way to close devices in version 2: a program of a few instructions that a group asks at each opening
//! of a device. It is put together here, because no library does it without an object file or a compiler of C, and given
//! to the kernel by bpf(2). It stays with its group: nothing of ours needs to live on.
#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;

use super::super::record::Guard;

/// Numbers of `linux/bpf.h`.
const LOAD: libc::c_long = 5;
const ATTACH: libc::c_long = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// A character device, in the low half of the first word of `struct bpf_cgroup_dev_ctx`.
const CHARACTER: i32 = 2;
const LICENSE: &CStr = c"Apache-2.0";

/// Codes of instructions: load a word, mask, compare with a number, set, leave.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const SET: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// Registers: the answer, what the kernel passes, and ours.
const ANSWER: u8 = 0;
const PASSED: u8 = 1;
const KIND: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;

/// One instruction, as the kernel lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    number: i32,
}

#[repr(C)]
struct LoadOrder {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct AttachOrder {
    group: u32,
    program: u32,
    place: u32,
    /// None: a program of ours that is there is replaced, those of groups above hold as well, and no group below may
    /// have its own. Ours are leaves.
    flags: u32,
}

const fn instruction(code: u8, registers: u8, offset: i16, number: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        number,
    }
}

fn leave_with(answer: i32) -> [Instruction; 2] {
    [
        instruction(SET, ANSWER, 0, answer),
        instruction(EXIT, 0, 0, 0),
    ]
}

/// The program that closes what `guards` close and leaves all else to the rest of the kernel.
fn assemble(guards: &[Guard]) -> Option<Vec<Instruction>> {
    let word = |register: u8, at: i16| instruction(LOAD_WORD, register | PASSED << 4, at, 0);
    let mut program = vec![
        word(KIND, 0),
        instruction(AND, KIND, 0, 0xffff),
        instruction(JUMP_IF, KIND, 2, CHARACTER),
    ];
    program.extend(leave_with(1));
    program.extend([word(MAJOR, 4), word(MINOR, 8)]);
    for guard in guards {
        let (listed, unlisted) = match guard.is_closed_list {
            true => (0, 1),
            false => (1, 0),
        };
        let count = guard.minors.len();
        // The comparisons, and twice the two instructions that leave.
        let past = i16::try_from(count + 4).ok()?;
        program.push(instruction(
            JUMP_UNLESS,
            MAJOR,
            past,
            i32::try_from(guard.major).ok()?,
        ));
        for (index, minor) in guard.minors.iter().enumerate() {
            let to_listed = i16::try_from(count - index - 1 + 2).ok()?;
            let minor = i32::try_from(*minor).ok()?;
            program.push(instruction(JUMP_IF, MINOR, to_listed, minor));
        }
        program.extend(leave_with(unlisted));
        // Reached by the jumps above; without any it is dead code, which the kernel's verifier refuses.
        match count {
            0 => {
                let past = program.len() - 3;
                program[past].offset = 2;
            }
            _ => program.extend(leave_with(listed)),
        }
    }
    program.extend(leave_with(1));
    Some(program)
}

/// Closes to the processes of the group at `folder` what `guards` close, in place of what an earlier call closed.
///
/// # Errors
/// When the kernel has no such programs or the caller no right to them.
pub(super) fn attach(folder: &Path, guards: &[Guard]) -> io::Result<()> {
    let program = assemble(guards).ok_or(io::ErrorKind::InvalidInput)?;
    let order = LoadOrder {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
    };
    let loaded = bpf(LOAD, &order)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let group = File::open(folder)?;
    let order = AttachOrder {
        group: group.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        place: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    bpf(ATTACH, &order).map(drop)
}

fn bpf<T>(command: libc::c_long, order: &T) -> io::Result<i32> {
    // SAFETY: `order` is laid out as the kernel documents it for `command` and longer-lived than the call; the kernel reads
    // it, takes what lies behind its end as zero, and writes nothing.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *order, size_of::<T>()) };
    match answer {
        0.. => Ok(answer as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(major: u32, minors: &[u32], is_closed_list: bool) -> Guard {
        Guard {
            major,
            minors: minors.to_vec(),
            is_closed_list,
            last: 255,
        }
    }

    /// What the kernel would do with it: whether this device may be opened.
    fn run(program: &[Instruction], device: [i64; 3]) -> bool {
        let mut registers = [0_i64; 11];
        let mut at = 0_usize;
        loop {
            let Instruction {
                code,
                registers: which,
                offset,
                number,
            } = program[at];
            at += 1;
            let to = usize::from(which & 15);
            match code {
                LOAD_WORD => registers[to] = device[offset as usize / 4],
                AND => registers[to] &= i64::from(number),
                JUMP_IF if registers[to] == i64::from(number) => at += offset as usize,
                JUMP_UNLESS if registers[to] != i64::from(number) => at += offset as usize,
                JUMP_IF | JUMP_UNLESS => {}
                SET => registers[to] = i64::from(number),
                EXIT => return registers[0] == 1,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    fn check(guards: &[Guard], device: [i64; 3], expected: bool) {
        let program = assemble(guards).unwrap();
        assert_eq!(run(&program, device), expected, "{device:?} {guards:?}");
    }

    /// Opened for reading and writing.
    const CHAR: i64 = 6 << 16 | 2;
    const BLOCK: i64 = 6 << 16 | 1;

    #[test]
    fn a_program_closes_what_its_guards_close() {
        let guards = [
            guard(195, &[1, 254, 255], false),
            guard(511, &[], false),
            guard(226, &[128, 130], true),
        ];
        for minor in [1, 254, 255] {
            check(&guards, [CHAR, 195, minor], true);
        }
        for minor in [0, 2, 253] {
            check(&guards, [CHAR, 195, minor], false);
        }
        check(&guards, [BLOCK, 195, 0], true);
        check(&guards, [CHAR, 511, 0], false);
        check(&guards, [CHAR, 226, 128], false);
        check(&guards, [CHAR, 226, 130], false);
        check(&guards, [CHAR, 226, 129], true);
        check(&guards, [CHAR, 1, 3], true);
        check(&[], [CHAR, 195, 0], true);
    }

    #[test]
    fn no_instruction_is_out_of_reach() {
        let guards = [
            guard(195, &[], false),
            guard(226, &[1], true),
            guard(7, &[], true),
        ];
        let program = assemble(&guards).unwrap();
        let mut reached = vec![false; program.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let instruction = program[at];
            if instruction.code != EXIT {
                open.push(at + 1);
            }
            if [JUMP_IF, JUMP_UNLESS].contains(&instruction.code) {
                open.push(at + 1 + instruction.offset as usize);
            }
        }
        assert!(reached.iter().all(|is| *is), "{reached:?}");
    }
}
