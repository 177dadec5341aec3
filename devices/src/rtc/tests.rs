use super::device::Civil;
use super::*;

struct Fixed(u64);

impl WallClock for Fixed {
    fn unix_time_s(&self) -> u64 {
        self.0
    }
}

fn read(time_s: u64, index: u8) -> u8 {
    let mut rtc = Rtc::new(Box::new(Fixed(time_s)));
    rtc.write(0, index | 0x80);
    rtc.write(1, 0xff);
    rtc.read(1)
}

#[test]
fn shows_the_time_in_bcd() {
    // 2024-02-29 23:59:58 UTC, a Thursday.
    let registers = [(0, 0x58), (2, 0x59), (4, 0x23), (6, 5), (7, 0x29), (8, 2), (9, 0x24), (0x32, 0x20)];
    for (index, value) in registers {
        assert_eq!(read(1_709_251_198, index), value, "register {index:#x}");
    }
    assert_eq!(read(0, 0x0a) & 0x80, 0, "no update in progress, ever");
    assert_eq!(read(0, 0x0b), 0x02);
    assert_eq!(read(0, 0x0d), 0x80);
}

#[test]
fn calendar_has_no_gap_or_jump() {
    let mut last = Civil::from_unix(0);
    assert_eq!((last.year, last.month, last.day, last.weekday), (1970, 1, 1, 5));
    for day in 1..400 * 366u64 {
        let next = Civil::from_unix(day * 86_400);
        let same_month = next.day == last.day + 1 && next.month == last.month && next.year == last.year;
        let next_month = next.day == 1 && last.day >= 28 && next.month == last.month % 12 + 1;
        assert!(same_month || next_month, "{last:?} then {next:?}");
        assert_eq!(next.year, last.year + u64::from(next_month && next.month == 1));
        last = next;
    }
}

#[test]
fn any_time_and_register_reads() {
    for time in [0, 1, u64::MAX / 2, u64::MAX] {
        (0..=u8::MAX).for_each(|index| {
            read(time, index);
        });
    }
}
