//! The modes of a terminal as SSH carries them: opcodes and values (RFC 4254 section 8).

use fakessh_protocol::terminal::WindowSize;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios, Winsize,
};

/// A mode of a terminal.
#[derive(Clone, Copy)]
enum Mode {
    /// A character with a meaning, 255 for none.
    Character(SpecialCodeIndex),
    Input(InputModes),
    Local(LocalModes),
    Output(OutputModes),
    Control(ControlModes),
    InputSpeed,
    OutputSpeed,
}

/// What a character's value is if no character has the meaning.
const NO_CHARACTER: u32 = 255;

/// The same in a terminal of Linux (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// All modes that Linux has, by their opcodes.
const MODES: [(u8, Mode); 53] = {
    use Mode::{Character, Control, Input, InputSpeed, Local, Output, OutputSpeed};
    [
        (1, Character(SpecialCodeIndex::VINTR)),
        (2, Character(SpecialCodeIndex::VQUIT)),
        (3, Character(SpecialCodeIndex::VERASE)),
        (4, Character(SpecialCodeIndex::VKILL)),
        (5, Character(SpecialCodeIndex::VEOF)),
        (6, Character(SpecialCodeIndex::VEOL)),
        (7, Character(SpecialCodeIndex::VEOL2)),
        (8, Character(SpecialCodeIndex::VSTART)),
        (9, Character(SpecialCodeIndex::VSTOP)),
        (10, Character(SpecialCodeIndex::VSUSP)),
        (12, Character(SpecialCodeIndex::VREPRINT)),
        (13, Character(SpecialCodeIndex::VWERASE)),
        (14, Character(SpecialCodeIndex::VLNEXT)),
        (16, Character(SpecialCodeIndex::VSWTC)),
        (18, Character(SpecialCodeIndex::VDISCARD)),
        (30, Input(InputModes::IGNPAR)),
        (31, Input(InputModes::PARMRK)),
        (32, Input(InputModes::INPCK)),
        (33, Input(InputModes::ISTRIP)),
        (34, Input(InputModes::INLCR)),
        (35, Input(InputModes::IGNCR)),
        (36, Input(InputModes::ICRNL)),
        (37, Input(InputModes::IUCLC)),
        (38, Input(InputModes::IXON)),
        (39, Input(InputModes::IXANY)),
        (40, Input(InputModes::IXOFF)),
        (41, Input(InputModes::IMAXBEL)),
        (42, Input(InputModes::IUTF8)),
        (50, Local(LocalModes::ISIG)),
        (51, Local(LocalModes::ICANON)),
        (52, Local(LocalModes::XCASE)),
        (53, Local(LocalModes::ECHO)),
        (54, Local(LocalModes::ECHOE)),
        (55, Local(LocalModes::ECHOK)),
        (56, Local(LocalModes::ECHONL)),
        (57, Local(LocalModes::NOFLSH)),
        (58, Local(LocalModes::TOSTOP)),
        (59, Local(LocalModes::IEXTEN)),
        (60, Local(LocalModes::ECHOCTL)),
        (61, Local(LocalModes::ECHOKE)),
        (62, Local(LocalModes::PENDIN)),
        (70, Output(OutputModes::OPOST)),
        (71, Output(OutputModes::OLCUC)),
        (72, Output(OutputModes::ONLCR)),
        (73, Output(OutputModes::OCRNL)),
        (74, Output(OutputModes::ONOCR)),
        (75, Output(OutputModes::ONLRET)),
        (90, Control(ControlModes::CS7)),
        (91, Control(ControlModes::CS8)),
        (92, Control(ControlModes::PARENB)),
        (93, Control(ControlModes::PARODD)),
        (128, InputSpeed),
        (129, OutputSpeed),
    ]
};

/// The modes of a terminal, as opcodes and values.
pub fn encode(terminal: &Termios) -> Vec<(u8, u32)> {
    let value = |mode| match mode {
        Mode::Character(index) => match terminal.special_codes[index] {
            DISABLED => NO_CHARACTER,
            character => character.into(),
        },
        Mode::Input(flag) => terminal.input_modes.intersects(flag).into(),
        Mode::Local(flag) => terminal.local_modes.intersects(flag).into(),
        Mode::Output(flag) => terminal.output_modes.intersects(flag).into(),
        Mode::Control(flag) => terminal.control_modes.intersects(flag).into(),
        Mode::InputSpeed => terminal.input_speed(),
        Mode::OutputSpeed => terminal.output_speed(),
    };
    MODES.iter().map(|&(opcode, mode)| (opcode, value(mode))).collect()
}

/// Gives a terminal these modes. Opcodes that Linux has no mode for, and values that a mode can't
/// have, are passed over.
pub fn apply(terminal: &mut Termios, modes: &[(u8, u32)]) {
    for &(opcode, value) in modes {
        let Some(&(_, mode)) = MODES.iter().find(|(known, _)| *known == opcode) else { continue };
        match mode {
            Mode::Character(index) => {
                if let Ok(character) = u8::try_from(value) {
                    let is_none = value == NO_CHARACTER;
                    terminal.special_codes[index] = if is_none { DISABLED } else { character };
                }
            }
            Mode::Input(flag) => terminal.input_modes.set(flag, value != 0),
            Mode::Local(flag) => terminal.local_modes.set(flag, value != 0),
            Mode::Output(flag) => terminal.output_modes.set(flag, value != 0),
            Mode::Control(flag) => terminal.control_modes.set(flag, value != 0),
            // A speed that the terminal can't have is no reason to go without one.
            Mode::InputSpeed => drop(terminal.set_input_speed(value)),
            Mode::OutputSpeed => drop(terminal.set_output_speed(value)),
        }
    }
}

/// A size as the kernel takes it.
pub fn to_winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_col: size.columns,
        ws_row: size.rows,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    }
}

/// A size as the kernel says it.
pub fn from_winsize(size: Winsize) -> WindowSize {
    WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
        width: size.ws_xpixel,
        height: size.ws_ypixel,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::tcgetattr;

    use super::*;

    fn terminal() -> Termios {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        tcgetattr(ioctl_tiocgptpeer(&master, flags).unwrap()).unwrap()
    }

    #[test]
    fn the_usual_modes_of_a_terminal_are_these() {
        let modes = encode(&terminal());
        let value = |opcode| modes.iter().find(|(known, _)| *known == opcode).unwrap().1;
        // ^C, ^D, and a character that a new terminal does not have.
        assert_eq!((value(1), value(5), value(16)), (3, 4, NO_CHARACTER));
        assert_eq!((value(36), value(51), value(53), value(70), value(72)), (1, 1, 1, 1, 1));
        assert_eq!((value(33), value(37), value(91), value(129)), (0, 0, 1, 38_400));
    }

    #[test]
    fn each_mode_survives_the_way() {
        let usual = encode(&terminal());
        for &(opcode, before) in &usual {
            let other = match opcode {
                ..30 => 7,
                // The bit of CS7 is set in CS8, too: it can't change alone.
                90 => continue,
                // A terminal has one of certain speeds.
                128 | 129 => 9600,
                _ => 1 - before,
            };
            let mut changed = terminal();
            apply(&mut changed, &[(opcode, other)]);
            let after = encode(&changed);
            let seen = after.iter().find(|(known, _)| *known == opcode).unwrap().1;
            assert_eq!(seen, other, "opcode {opcode}");
        }
    }

    #[test]
    fn what_is_no_mode_changes_nothing() {
        let mut changed = terminal();
        apply(&mut changed, &[(0, 1), (17, 3), (43, 1), (255, u32::MAX), (1, 1000), (129, 12_345)]);
        assert_eq!(encode(&changed)[0], (1, 3));
        apply(&mut changed, &[(1, 255)]);
        assert_eq!(encode(&changed)[0], (1, NO_CHARACTER));
    }
}
