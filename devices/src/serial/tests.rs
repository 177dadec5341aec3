use super::*;

/// What Linux 8250 autoconfiguration does to tell a 16550A from older and newer chips.
#[test]
fn linux_probe_finds_a_16550a() {
    let mut uart = Serial::new();
    uart.write(spec::IER, 0);
    assert_eq!(uart.read(spec::IER), 0);
    uart.write(spec::IER, 0x0f);
    assert_eq!(uart.read(spec::IER), 0x0f);
    uart.write(spec::IER, 0);

    uart.write(spec::MCR, spec::MCR_LOOP | 0x0a);
    assert_eq!(uart.read(spec::MSR) & 0xf0, 0x90, "loopback of RTS and OUT2");
    uart.write(spec::MCR, 0);

    uart.write(spec::SCR, 0xa5);
    assert_eq!(uart.read(spec::SCR), 0xa5);

    uart.write(spec::IIR_FCR, spec::FCR_ENABLE);
    assert_eq!(uart.read(spec::IIR_FCR) >> 6, 3, "FIFOs work");
    uart.write(spec::IER, 0x40);
    assert_eq!(uart.read(spec::IER) & 0x40, 0, "not an XScale UART");

    // Start-up: enabling the transmit interrupt must raise it, or the driver works around a bug.
    uart.write(spec::IER, spec::IER_TRANSMIT_EMPTY);
    assert_ne!(uart.read(spec::LSR) & spec::LSR_IDLE, 0);
    assert_eq!(uart.read(spec::IIR_FCR) & spec::IIR_NONE, 0);
}

#[test]
fn bytes_go_out_and_interrupt_once_each() {
    let mut uart = Serial::new();
    assert_eq!(uart.write(spec::DATA, b'a'), Some(b'a'));
    assert_eq!(uart.take_level_change(), None, "no interrupt is enabled");
    uart.write(spec::IER, spec::IER_TRANSMIT_EMPTY);
    assert_eq!(uart.take_level_change(), Some(true));
    assert_eq!(uart.read(spec::IIR_FCR), spec::IIR_TRANSMIT_EMPTY);
    assert_eq!(uart.take_level_change(), Some(false));
    assert_eq!(uart.read(spec::IIR_FCR), spec::IIR_NONE);
    assert_eq!(uart.write(spec::DATA, b'b'), Some(b'b'));
    assert_eq!(uart.take_level_change(), Some(true));
}

#[test]
fn divisor_latch_hides_data_and_ier() {
    let mut uart = Serial::new();
    uart.write(spec::LCR, spec::LCR_DLAB | 3);
    assert_eq!(uart.write(spec::DATA, 0x34), None);
    uart.write(spec::IER, 0x12);
    assert_eq!((uart.read(spec::DATA), uart.read(spec::IER)), (0x34, 0x12));
    uart.write(spec::LCR, 3);
    assert_eq!(uart.read(spec::IER), 0);
}

#[test]
fn input_waits_for_the_guest() {
    let mut uart = Serial::new();
    let typed = [b'x'; FIFO_SIZE + 10];
    assert_eq!(uart.receive(&typed), FIFO_SIZE);
    assert_eq!(uart.take_level_change(), None);
    uart.write(spec::IER, spec::IER_RECEIVED);
    assert_eq!(uart.take_level_change(), Some(true));
    assert_eq!(uart.read(spec::IIR_FCR), spec::IIR_RECEIVED);
    for _ in 0..FIFO_SIZE {
        assert_ne!(uart.read(spec::LSR) & spec::LSR_DATA_READY, 0);
        assert_eq!(uart.read(spec::DATA), b'x');
    }
    assert_eq!(uart.read(spec::LSR) & spec::LSR_DATA_READY, 0);
    assert_eq!(uart.take_level_change(), Some(false));
    assert_eq!(uart.receive(b"y"), 1);
}

#[test]
fn loopback_returns_what_was_sent_and_reports_overrun() {
    let mut uart = Serial::new();
    uart.write(spec::MCR, spec::MCR_LOOP);
    for _ in 0..=FIFO_SIZE {
        assert_eq!(uart.write(spec::DATA, 0x5a), None);
    }
    assert_eq!(uart.receive(b"host"), 0);
    assert_ne!(uart.read(spec::LSR) & spec::LSR_OVERRUN, 0);
    assert_eq!(uart.read(spec::LSR) & spec::LSR_OVERRUN, 0, "reading clears it");
    assert_eq!(uart.read(spec::DATA), 0x5a);
}

#[test]
fn state_survives_and_a_bad_one_is_refused() {
    let mut uart = Serial::new();
    uart.write(spec::IER, spec::IER_RECEIVED);
    uart.receive(b"abc");
    let state = uart.save();
    let text = serde_json::to_string(&state).expect("state serialises");
    let mut back = Serial::restore(serde_json::from_str(&text).expect("state parses")).expect("own state is good");
    assert_eq!(back.save(), state);
    assert_eq!(back.take_level_change(), Some(true));
    assert_eq!(back.read(spec::DATA), b'a');

    assert!(Serial::restore(SerialState { interrupt_enable: 0x10, ..state.clone() }).is_err());
    assert!(Serial::restore(SerialState { modem_control: 0x20, ..state.clone() }).is_err());
    assert!(Serial::restore(SerialState { input: vec![0; FIFO_SIZE + 1], ..state }).is_err());
}

#[test]
fn survives_a_hostile_guest_and_state() {
    use proptest::collection::vec;
    use proptest::prelude::*;
    let access = (any::<bool>(), prop_oneof![9 => 0u8..8, 1 => any::<u8>()], any::<u8>());
    let state = (0u8..32, any::<u8>(), 0u8..64, any::<bool>(), vec(any::<u8>(), 0..FIFO_SIZE + 8));
    crate::fuzz::check(&(state, vec(access, 0..100)), |(fields, accesses)| {
        let (interrupt_enable, line_control, modem_control, flag, input) = fields;
        let state = SerialState {
            interrupt_enable,
            line_control,
            modem_control,
            fifo_enabled: flag,
            transmit_pending: !flag,
            input,
            ..Serial::new().save()
        };
        let mut uart = Serial::restore(state).unwrap_or_default();
        for (write, offset, value) in accesses {
            if write {
                uart.write(offset, value);
                uart.receive(&[value; 9]);
            } else {
                uart.read(offset);
            }
            uart.take_level_change();
            let saved = uart.save();
            assert!(saved.input.len() <= FIFO_SIZE);
            assert_eq!(Serial::restore(saved.clone()).expect("its own state is good").save(), saved);
        }
    });
}
