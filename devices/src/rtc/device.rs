//! The clock chip's two ports.

use super::spec;

/// The host's wall clock.
pub trait WallClock: Send {
    /// Seconds since 1970 in UTC.
    fn unix_time_s(&self) -> u64;
}

/// A real-time clock that follows the host's and takes no writes. Its one bit of state, the selected register, is
/// written by a guest before each read, so nothing is saved.
pub struct Rtc {
    clock: Box<dyn WallClock>,
    index: u8,
}

impl std::fmt::Debug for Rtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rtc").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Rtc {
    /// A clock chip that shows `clock`.
    #[must_use]
    pub fn new(clock: Box<dyn WallClock>) -> Self {
        Self { clock, index: 0 }
    }

    /// Reads the index port (0, which a PC cannot read) or the data port (1).
    #[must_use]
    pub fn read(&self, offset: u8) -> u8 {
        if offset != 1 {
            return 0xff;
        }
        let time = Civil::from_unix(self.clock.unix_time_s());
        match self.index {
            spec::SECONDS => bcd(time.second),
            spec::MINUTES => bcd(time.minute),
            spec::HOURS => bcd(time.hour),
            spec::DAY_OF_WEEK => bcd(time.weekday),
            spec::DAY_OF_MONTH => bcd(time.day),
            spec::MONTH => bcd(time.month),
            spec::YEAR => bcd(time.year % 100),
            spec::CENTURY => bcd(time.year / 100 % 100),
            spec::REGISTER_A => spec::A_VALUE,
            spec::REGISTER_B => spec::B_VALUE,
            spec::REGISTER_D => spec::D_VALUE,
            _ => 0,
        }
    }

    /// Writes the index port (0); writes to the data port are ignored.
    pub fn write(&mut self, offset: u8, value: u8) {
        if offset == 0 {
            self.index = value & spec::INDEX_MASK;
        }
    }
}

/// A moment in the Gregorian calendar, UTC.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    /// Sunday is 1.
    pub(super) weekday: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
}

impl Civil {
    /// Counts days from 1 March of year 0, so that the leap day is a year's last.
    pub(super) fn from_unix(time_s: u64) -> Self {
        const DAYS_TO_1970: u64 = 719_468;
        const DAYS_PER_ERA: u64 = 146_097;
        let days = time_s / 86_400;
        let since_march_0 = days.saturating_add(DAYS_TO_1970);
        let (era, day_of_era) = (since_march_0 / DAYS_PER_ERA, since_march_0 % DAYS_PER_ERA);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days + 4) % 7 + 1,
            hour: time_s / 3_600 % 24,
            minute: time_s / 60 % 60,
            second: time_s % 60,
        }
    }
}

fn bcd(value: u64) -> u8 {
    (value / 10 % 10 * 16 + value % 10) as u8
}
