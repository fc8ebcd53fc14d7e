//! Bookings without IDs: two equal ones of a day stay two, whatever the window, the lookback and the pages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::ledger::Granularity;
use busbar::ledger::record::TransactionFilter;
use busbar::sync::SyncPlan;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Provider;
use crate::kit::walk_bank::{Answer, Seen, page};

const ACCOUNT: [(&str, &str); 1] = [("accountId", "acc-1")];

/// A booking without an ID at this instant.
fn booking(at: &str, amount: &str, reference: &str) -> Value {
    json!({"AccountId": "acc-1", "CreditDebitIndicator": "Debit", "Status": "Booked", "BookingDateTime": at,
           "Amount": {"Amount": amount, "Currency": "GBP"}, "TransactionReference": reference})
}

/// A bank that returns the bookings of the window, in pages of two.
fn bank(bookings: &Arc<Mutex<Vec<Value>>>) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    let bookings = Arc::clone(bookings);
    move |seen| {
        let bound = |name: &str| seen.query(name).parse::<Timestamp>().unwrap();
        let (from, to) = (bound("fromBookingDateTime"), bound("toBookingDateTime"));
        let all = bookings.lock().unwrap();
        let at = |booking: &&Value| booking["BookingDateTime"].as_str().unwrap().parse::<Timestamp>().unwrap();
        let found: Vec<_> = all.iter().filter(|booking| (from..=to).contains(&at(booking))).cloned().collect();
        let number = seen.query("page").parse().unwrap_or(0_usize);
        let shown: Vec<_> = found.iter().skip(2 * number).take(2).cloned().collect();
        let next = format!("{}&page={}", seen.target.split("&page").next().unwrap(), number + 1);
        let links = if found.len() > 2 * (number + 1) { json!({"Next": next}) } else { json!({}) };
        page(json!({"Data": {"Transaction": shown}, "Links": links, "Meta": {}}))
    }
}

async fn provider(bookings: &Arc<Mutex<Vec<Value>>>, lookback: Duration) -> Provider {
    let mut provider = Provider::start(("open-banking-uk", "transactions", ""), &ACCOUNT, bank(bookings)).await;
    let start = Some("2026-08-01T00:00:00Z".parse().unwrap());
    provider.plan = SyncPlan { start, lookback: Some(lookback), ..provider.plan };
    provider
}

#[tokio::test]
async fn equal_bookings_of_a_day_that_come_one_after_the_other_stay_as_many() {
    for lookback in [Duration::ZERO, Duration::from_hours(1), Duration::from_hours(30), Duration::from_hours(240)] {
        for zone in ["Z", "+01:00", "-05:00", "+13:00"] {
            let bookings = Arc::new(Mutex::new(Vec::new()));
            let provider = provider(&bookings, lookback).await;
            for (count, time) in ["00:30", "09:00", "15:00", "23:30"].into_iter().enumerate() {
                bookings.lock().unwrap().push(booking(&format!("2026-09-02T{time}:00{zone}"), "3.50", "COFFEE"));
                assert_eq!(provider.run().await.counts.inserted, 1, "{lookback:?} {zone} {time}");
                assert_eq!(provider.moves().await.len(), count + 1, "{lookback:?} {zone} {time}");
            }
            // Another day moves the window on, and the days before it stay.
            bookings.lock().unwrap().push(booking(&format!("2026-09-04T12:00:00{zone}"), "3.50", "COFFEE"));
            for inserted in [1, 0] {
                let run = provider.run().await;
                assert_eq!((run.counts.inserted, run.counts.updated), (inserted, 0), "{lookback:?} {zone}");
            }
            assert_eq!(provider.moves().await.len(), 5, "{lookback:?} {zone}");
        }
    }
}

#[tokio::test]
async fn the_fields_that_the_stream_names_tell_bookings_apart_and_others_do_not() {
    let bookings = Arc::new(Mutex::new(vec![
        booking("2026-09-02T09:00:00Z", "3.50", "A"),
        booking("2026-09-02T09:00:00Z", "3.5", "B"),
        booking("2026-09-02T09:00:00Z", "3.50", "B"),
        booking("2026-09-03T09:00:00Z", "3.50", "A"),
    ]));
    let provider = provider(&bookings, Duration::from_hours(240)).await;
    assert_eq!(provider.run().await.counts.inserted, 4);
    // A field that is not named may change without another identity.
    bookings.lock().unwrap()[0]["MerchantDetails"] = json!({"MerchantName": "Cafe"});
    let run = provider.run().await;
    assert_eq!((run.counts.inserted, run.counts.updated), (0, 1));
    let rows = provider.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    assert!(rows.iter().all(|row| row.record.key.starts_with('~')), "derived");
}

#[tokio::test]
async fn a_day_is_never_an_instant_and_a_time_without_a_zone_is_only_a_day() {
    let bank = Provider::start(("gocardless", "transactions", "/api/v2"), &ACCOUNT, |_| {
        let payment = |fields: Value| {
            let mut record = json!({"transactionAmount": {"amount": "1.00", "currency": "EUR"}});
            record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            record
        };
        let booked = [
            payment(json!({"transactionId": "day", "bookingDate": "2026-09-01", "valueDate": "2026-09-02"})),
            payment(json!({"transactionId": "civil", "bookingDate": "2026-09-01T10:00:00"})),
            payment(json!({"transactionId": "none", "valueDate": "2026-09-03"})),
            payment(json!({"transactionId": "blank", "bookingDate": " "})),
            payment(json!({"transactionId": "odd", "bookingDate": "9999-12-31"})),
        ];
        page(json!({"transactions": {"booked": booked, "pending": []}}))
    })
    .await;
    let run = bank.run().await;
    assert_eq!((run.counts.inserted, run.counts.rejected), (3, 2));
    let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    for row in &rows {
        assert_eq!((row.record.booked.at, row.record.booked.granularity), (None, Granularity::Day));
    }
    let valued: Vec<_> =
        rows.iter().filter_map(|row| row.record.valued.as_ref()).map(|time| time.on.to_string()).collect();
    assert_eq!(valued.len(), 2, "{valued:?}");
    assert_eq!(bank.letters().await, ["TimeMissing /bookingDate", "TimeOutOfRange /bookingDate"]);
}
