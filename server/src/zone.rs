//! The time zone of this host, as the table that decisions work with: rules of zones change, and a replay must find those
//! of its time.

use capstan_types::{Timestamp, Zone};
use jiff::tz::TimeZone;

/// Offsets that hold from now on: those of the next ten years where the zone knows summer time.
pub(crate) fn of_this_host(now: Timestamp) -> Zone {
    table(&TimeZone::system(), now)
}

fn table(zone: &TimeZone, now: Timestamp) -> Zone {
    let secs = i64::try_from(now.secs()).unwrap_or(0);
    let now = jiff::Timestamp::from_second(secs).unwrap_or_default();
    let first = (Timestamp(0), zone.to_offset(now).seconds());
    let later = zone.following(now).map(|change| {
        let at = u64::try_from(change.timestamp().as_millisecond()).unwrap_or(0);
        (Timestamp(at), change.offset().seconds())
    });
    let name = zone.iana_name().unwrap_or_default();
    let steps = std::iter::once(first).chain(later);
    Zone::new(name, steps.take(Zone::STEPS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_with_summer_time_has_its_changes_and_one_without_has_none() {
        let now = Timestamp(1_795_391_940_000);
        assert_eq!(table(&TimeZone::UTC, now).wall(now).0, 1_795_391_940);
        // As POSIX writes it: one hour east, summer time from the last Sunday of March to that of October.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let berlin = table(&berlin, now);
        assert_eq!(berlin.wall(now).0, 1_795_391_940 + 3600);
        let in_summer = Timestamp(1_815_000_000_000);
        assert_eq!(berlin.wall(in_summer).0, 1_815_000_000 + 7200);
        let in_winter = Timestamp(1_830_000_000_000);
        assert_eq!(berlin.wall(in_winter).0, 1_830_000_000 + 3600);
    }
}
