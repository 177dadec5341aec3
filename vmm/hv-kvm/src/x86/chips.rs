//! Saving and restoring the interrupt controllers and the timer that live in the kernel.
// UNSAFETY: a chip's state is a C union; its raw bytes are the union's `dummy` member.
#![expect(unsafe_code, reason = "union of plain bytes")]

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_channel_state,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use supermachine_hv::{ChipState, HvError};

use super::spec::IRQCHIP_LEN;
use super::{os, refused};

const IRQCHIPS: [(&str, u32); 3] =
    [("pic-master", KVM_IRQCHIP_PIC_MASTER), ("pic-slave", KVM_IRQCHIP_PIC_SLAVE), ("ioapic", KVM_IRQCHIP_IOAPIC)];
const PIT: &str = "pit";
const PIT_CHANNEL_LEN: usize = 24;
/// Three channels and the flags.
const PIT_LEN: usize = 3 * PIT_CHANNEL_LEN + 4;

/// All chips, in a fixed order.
pub(super) fn save(fd: &VmFd) -> Result<Vec<ChipState>, HvError> {
    let mut chips = Vec::with_capacity(IRQCHIPS.len() + 1);
    for (name, chip_id) in IRQCHIPS {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        fd.get_irqchip(&mut chip).map_err(os("KVM_GET_IRQCHIP"))?;
        // SAFETY: every member of the union is plain integers, so all its bytes can be read as bytes.
        let dummy = unsafe { chip.chip.dummy };
        chips.push(ChipState { name: name.to_owned(), bytes: dummy.map(|byte| byte.cast_unsigned()).to_vec() });
    }
    let pit = fd.get_pit2().map_err(os("KVM_GET_PIT2"))?;
    chips.push(ChipState { name: PIT.to_owned(), bytes: encode_pit(&pit) });
    Ok(chips)
}

/// Checks that exactly these chips are there in this layout, then puts them back.
pub(super) fn restore(fd: &VmFd, chips: &[ChipState]) -> Result<(), HvError> {
    let [irqchips @ .., pit] = chips else {
        return Err(bad("no chips".to_owned()));
    };
    if irqchips.len() != IRQCHIPS.len() || pit.name != PIT {
        let names: Vec<&str> = chips.iter().map(|chip| chip.name.as_str()).take(8).collect();
        return Err(bad(format!("these are not the chips of a KVM machine: {names:?}")));
    }
    let pit = decode_pit(&pit.bytes).ok_or_else(|| bad(wrong_length(pit, PIT_LEN)))?;
    let mut decoded = Vec::with_capacity(IRQCHIPS.len());
    for (chip, (name, chip_id)) in irqchips.iter().zip(IRQCHIPS) {
        if chip.name != name {
            return Err(bad(format!("{name} expected, {:?} found", chip.name)));
        }
        let bytes: [u8; IRQCHIP_LEN] =
            chip.bytes.as_slice().try_into().map_err(|_| bad(wrong_length(chip, IRQCHIP_LEN)))?;
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        chip.chip.dummy = bytes.map(|byte| byte.cast_signed());
        decoded.push(chip);
    }
    for chip in &decoded {
        fd.set_irqchip(chip).map_err(refused("chips"))?;
    }
    fd.set_pit2(&pit).map_err(refused("chips"))
}

fn bad(problem: String) -> HvError {
    HvError::BadState { field: "chips", problem }
}

fn wrong_length(chip: &ChipState, want: usize) -> String {
    format!("{} has {} bytes, {want} expected", chip.name, chip.bytes.len())
}

/// The timer's state field by field, without the C structure's padding.
fn encode_pit(pit: &kvm_pit_state2) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PIT_LEN);
    for channel in &pit.channels {
        bytes.extend_from_slice(&channel.count.to_le_bytes());
        bytes.extend_from_slice(&channel.latched_count.to_le_bytes());
        bytes.extend_from_slice(&[
            channel.count_latched,
            channel.status_latched,
            channel.status,
            channel.read_state,
            channel.write_state,
            channel.write_latch,
            channel.rw_mode,
            channel.mode,
            channel.bcd,
            channel.gate,
        ]);
        bytes.extend_from_slice(&channel.count_load_time.to_le_bytes());
    }
    bytes.extend_from_slice(&pit.flags.to_le_bytes());
    bytes
}

/// `None` where the length is wrong.
fn decode_pit(bytes: &[u8]) -> Option<kvm_pit_state2> {
    let (channels, flags) = bytes.split_last_chunk::<4>()?;
    if channels.len() != 3 * PIT_CHANNEL_LEN {
        return None;
    }
    let mut pit = kvm_pit_state2 { flags: u32::from_le_bytes(*flags), ..Default::default() };
    for (channel, bytes) in pit.channels.iter_mut().zip(channels.chunks_exact(PIT_CHANNEL_LEN)) {
        *channel = decode_channel(bytes)?;
    }
    Some(pit)
}

fn decode_channel(bytes: &[u8]) -> Option<kvm_pit_channel_state> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let (latched_count, rest) = rest.split_first_chunk::<2>()?;
    let (small, time) = rest.split_first_chunk::<10>()?;
    let [count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode, mode, bcd, gate] =
        *small;
    Some(kvm_pit_channel_state {
        count: u32::from_le_bytes(*count),
        latched_count: u16::from_le_bytes(*latched_count),
        count_latched,
        status_latched,
        status,
        read_state,
        write_state,
        write_latch,
        rw_mode,
        mode,
        bcd,
        gate,
        count_load_time: i64::from_le_bytes(time.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pit_bytes_round_trip() {
        let mut pit = kvm_pit_state2 { flags: 1, ..Default::default() };
        for (number, channel) in (1u8..).zip(pit.channels.iter_mut()) {
            *channel = kvm_pit_channel_state {
                count: 0x1_0000 + u32::from(number),
                latched_count: u16::from(number),
                mode: number,
                gate: 1,
                count_load_time: -5 * i64::from(number),
                ..Default::default()
            };
        }
        let bytes = encode_pit(&pit);
        assert_eq!(bytes.len(), PIT_LEN);
        assert_eq!(decode_pit(&bytes), Some(pit));
    }

    #[test]
    fn pit_bytes_of_another_length_are_refused() {
        assert_eq!(decode_pit(&[0; PIT_LEN - 1]), None);
        assert_eq!(decode_pit(&[0; PIT_LEN + 1]), None);
        assert_eq!(decode_pit(&[]), None);
    }
}
