use super::*;

#[test]
fn only_the_reset_command_resets() {
    let controller = I8042::new();
    for offset in 0..=u8::MAX {
        for value in 0..=u8::MAX {
            let reset = controller.write(offset, value).is_some();
            assert_eq!(reset, offset == 4 && value == 0xfe, "port offset {offset}, value {value:#x}");
        }
        assert_eq!(controller.read(offset), 0, "a full input buffer would keep the guest waiting");
    }
}
