//! Tests of round-trip times in virtual time (RFC 6455, sections 5.5.2 and 5.5.3).

use std::time::{Duration, Instant};

use crate::common::{MS, NANOSECOND, SECOND, fixed_cases};
use proptest::prelude::*;
use threadwire_proto::{RoundTripSummary, RoundTrips};

#[test]
fn a_pong_gives_the_time_since_its_own_ping() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let first = trips.begin(start);
    let second = trips.begin(start + 10 * MS);
    assert_eq!(trips.pong(&first, start + 15 * MS), Some(15 * MS));
    assert_eq!(trips.pong(&second, start + 40 * MS), Some(30 * MS));
    assert_eq!((trips.in_flight(), trips.count()), (0, 2));
}

#[test]
fn a_pong_for_a_later_ping_settles_the_earlier_ones_without_a_time() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let pings = [0, 1, 2, 3].map(|ms| trips.begin(start + ms * MS));
    assert_eq!(trips.pong(&pings[2], start + 10 * MS), Some(8 * MS));
    assert_eq!(trips.waiting_since(), Some(start + 3 * MS));
    for settled in &pings[..3] {
        assert_eq!(trips.pong(settled, start + 11 * MS), None);
    }
    assert_eq!((trips.in_flight(), trips.count()), (1, 1));
}

#[test]
fn pongs_that_nobody_asked_for_change_nothing() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let payload = trips.begin(start);
    let next = (u64::from_be_bytes(payload).wrapping_add(1)).to_be_bytes();
    let before = (u64::from_be_bytes(payload).wrapping_sub(1)).to_be_bytes();
    let long = [&payload[..], b"!"].concat();
    for unknown in [&b""[..], b"hello", &payload[..7], &long, &next, &before] {
        assert_eq!(trips.pong(unknown, start + MS), None);
    }
    assert_eq!((trips.in_flight(), trips.summary()), (1, None));
    assert_eq!(trips.pong(&payload, start + 2 * MS), Some(2 * MS));
}

#[test]
fn one_ping_too_many_makes_the_oldest_forgotten() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let pings: Vec<_> = (0..17).map(|ms| trips.begin(start + ms * MS)).collect();
    assert_eq!(trips.in_flight(), RoundTrips::IN_FLIGHT);
    assert_eq!(trips.waiting_since(), Some(start + MS));
    assert_eq!(trips.pong(&pings[0], start + 20 * MS), None);
    assert_eq!(trips.pong(&pings[1], start + 20 * MS), Some(19 * MS));
    assert_eq!(trips.pong(&pings[16], start + 20 * MS), Some(4 * MS));
}

#[test]
fn no_two_payloads_of_a_connection_are_the_same_and_no_two_connections_begin_alike() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let mut payloads: Vec<_> = (0..100).map(|_| trips.begin(start)).collect();
    let later = payloads[99];
    trips.pong(&later, start);
    payloads.extend((0..100).map(|_| trips.begin(start)));
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), 200);
    assert!(payloads.binary_search(&RoundTrips::new().begin(start)).is_err());
}

#[test]
fn pings_that_were_given_up_have_no_time() {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    let given_up = trips.begin(start);
    trips.forget();
    assert_eq!((trips.in_flight(), trips.waiting_since()), (0, None));
    let payload = trips.begin(start + MS);
    assert_ne!(payload, given_up);
    assert_eq!(trips.pong(&given_up, start + 2 * MS), None);
    assert_eq!(trips.pong(&payload, start + 2 * MS), Some(MS));
}

#[test]
fn there_is_no_summary_before_the_first_pong() {
    let mut trips = RoundTrips::new();
    trips.begin(Instant::now());
    assert_eq!(trips.summary(), None);
    assert_eq!((trips.last(), trips.min(), trips.max()), (None, None, None));
    assert_eq!((trips.p50(), trips.p99(), trips.quantile(0.3)), (None, None, None));
    assert_eq!(trips.count(), 0);
}

fn measured(times: impl IntoIterator<Item = Duration>) -> RoundTrips {
    let start = Instant::now();
    let mut trips = RoundTrips::new();
    for time in times {
        let payload = trips.begin(start);
        assert_eq!(trips.pong(&payload, start + time), Some(time));
    }
    trips
}

#[test]
fn one_round_trip_is_summed_up_exactly() {
    let time = Duration::from_nanos(123_456_789);
    let RoundTripSummary { count, last, min, p50, p99, max, .. } = measured([time]).summary().unwrap();
    assert_eq!((count, [last, min, p50, p99, max]), (1, [time; 5]));
}

#[test]
fn a_slow_one_in_a_hundred_shows_in_the_maximum_and_two_show_in_the_99th_percentile() {
    let fast = || std::iter::repeat_n(MS, 98);
    let one = measured(fast().chain([SECOND, MS])).summary().unwrap();
    assert_eq!((one.max, one.last), (SECOND, MS));
    assert!(one.p99 < 2 * MS);
    let two = measured(fast().chain([SECOND, SECOND])).summary().unwrap();
    assert!(two.p50 < 2 * MS && two.p99 == SECOND);
}

#[test]
fn round_trips_past_a_minute_are_exact_in_the_maximum_and_a_minute_in_quantiles() {
    let trips = measured([100 * SECOND, 200 * SECOND]);
    assert_eq!((trips.min(), trips.max()), (Some(100 * SECOND), Some(200 * SECOND)));
    assert_eq!(trips.p50(), Some(RoundTrips::LONGEST));
    assert_eq!(trips.quantile(1.0), Some(RoundTrips::LONGEST));
}

#[test]
fn a_round_trip_of_more_nanoseconds_than_an_integer_counts_is_a_minute_in_quantiles() {
    let trips = measured([MS, Duration::from_nanos(u64::MAX) + SECOND]);
    assert_eq!(trips.p99(), Some(RoundTrips::LONGEST));
}

#[test]
fn quantiles_out_of_range_are_the_ends_and_nan_has_none() {
    let trips = measured([MS, 2 * MS, 3 * MS]);
    for (quantile, time) in [(-1.0, MS), (0.0, MS), (1.0, 3 * MS), (f64::INFINITY, 3 * MS)] {
        assert_eq!(trips.quantile(quantile), Some(time));
    }
    assert_eq!(trips.quantile(f64::NAN), None);
}

#[test]
fn a_pong_before_its_ping_took_no_time() {
    let start = Instant::now() + SECOND;
    let mut trips = RoundTrips::new();
    let payload = trips.begin(start);
    assert_eq!(trips.pong(&payload, start - MS), Some(Duration::ZERO));
    assert_eq!((trips.p50(), trips.count()), (Some(Duration::ZERO), 1));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn before_the_first_ping_it_is_no_larger_than_documented() {
    assert!(size_of::<RoundTrips>() <= 184);
}

proptest! {
    #![proptest_config(fixed_cases(128))]

    #[test]
    fn quantiles_are_those_of_the_sorted_times_to_one_percent(
        times in proptest::collection::vec(prop_oneof![1..2_000_u64, 1..20_000_000_u64], 1..300),
        quantile in 0.0..=1.0_f64,
    ) {
        let start = Instant::now();
        let mut trips = RoundTrips::new();
        for &time in &times {
            let payload = trips.begin(start);
            trips.pong(&payload, start + Duration::from_micros(time));
        }
        let mut sorted = times;
        sorted.sort_unstable();
        let rank = ((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        let exact = Duration::from_micros(sorted[rank - 1]);
        let found = trips.quantile(quantile).unwrap();
        prop_assert!(found.abs_diff(exact) <= exact / 100 + 64 * NANOSECOND, "{:?} for {:?}", found, exact);
    }
}
