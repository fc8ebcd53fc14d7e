//! Prices, series, news and collaterals: FMP, Polygon, FRED, NewsAPI, Finastra.

use serde_json::json;

use super::{KEY, Provider, text};
use crate::kit::walk_bank::page;

#[tokio::test]
async fn fred_stores_a_dot_as_no_value_and_a_revision_as_a_change() {
    let bank = Provider::start(("fred", "observations", "/fred"), &[("series", "GNPCA")], |seen| {
        assert_eq!((seen.query("series_id"), seen.query("file_type")), ("GNPCA", "json"));
        let today = r#""realtime_start": "2026-09-10", "realtime_end": "2026-09-10""#;
        text(&format!(
            r#"{{"count": 3, "offset": 0, "limit": 1000, "observations": [
                {{{today}, "date": "1929-01-01", "value": "1120.718"}},
                {{{today}, "date": "1930-01-01", "value": "."}},
                {{{today}, "date": "1931-01-01", "value": "123456789012.123456789012"}}]}}"#
        ))
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 3);
    assert_eq!(
        bank.columns("observations", &["observed_on", "amount", "known_from"]).await,
        [
            "GNPCA:1929-01-01 1929-01-01 1120.718 -",
            "GNPCA:1930-01-01 1930-01-01 - -",
            "GNPCA:1931-01-01 1931-01-01 123456789012.123456789012 -"
        ]
    );
    assert_eq!(bank.run().await.counts.unchanged, 3, "today's date is no change");
}

#[tokio::test]
async fn fred_vintages_keep_every_published_value() {
    let bank = Provider::start(("fred", "vintages", "/fred"), &[("series", "GDP")], |seen| {
        assert_eq!(seen.query("realtime_end"), "9999-12-31");
        page(json!({"count": 2, "observations": [
            {"realtime_start": "2026-01-30", "realtime_end": "2026-02-26", "date": "2025-10-01", "value": "1.5"},
            {"realtime_start": "2026-02-27", "realtime_end": "9999-12-31", "date": "2025-10-01", "value": "1.7"}]}))
    })
    .await;
    bank.run().await;
    assert_eq!(
        bank.columns("observations", &["amount", "known_from", "known_to"]).await,
        ["GDP:2025-10-01:2026-01-30 1.5 2026-01-30 2026-02-26", "GDP:2025-10-01:2026-02-27 1.7 2026-02-27 9999-12-31"]
    );
}

#[tokio::test]
async fn fmp_quotes_keep_their_digits_and_a_response_without_a_value_is_rejected() {
    let bank = Provider::start(("fmp", "quotes", "/stable"), &[("symbol", "AAPL")], |_| {
        text(
            r#"[{"symbol": "AAPL", "name": "Apple", "price": 150.25999450683594, "open": 9007199254740993,
                 "dayHigh": 90071992547409.93, "dayLow": null, "volume": 81234567, "timestamp": 1788220800},
                {"symbol": "MSFT", "price": null, "timestamp": 1788220800}]"#,
        )
    })
    .await;
    let run = bank.run().await;
    assert_eq!((run.counts.inserted, run.counts.rejected), (1, 1));
    assert_eq!(
        bank.columns("quotes", &["price", "open_price", "high_price", "low_price", "volume", "quoted_on"]).await,
        ["AAPL:1788220800 150.25999450683594 9007199254740993 90071992547409.93 - 81234567 2026-08-31"]
    );
    assert_eq!(bank.letters().await, ["FieldMissing /price"]);
    assert!(bank.requests()[0].query("apikey") == KEY, "the connection's key is sent");
}

#[tokio::test]
async fn fmp_earnings_and_fundamentals_are_documents_by_symbol_and_day() {
    for (stream, path, key) in [
        ("earnings", "/stable/earnings", "AAPL:2026-07-30"),
        ("fundamentals", "/stable/income-statement", "AAPL:2026-07-30:Q3"),
    ] {
        let bank = Provider::start(("fmp", stream, "/stable"), &[("symbol", "AAPL")], move |seen| {
            assert_eq!(seen.path, path);
            page(json!([{"symbol": "AAPL", "date": "2026-07-30", "period": "Q3", "epsActual": 1.57}]))
        })
        .await;
        bank.run().await;
        let all = busbar::ledger::record::TransactionFilter::default();
        let documents = bank.sync.ledger.list_documents(&all, 10).await.unwrap();
        assert_eq!(documents[0].record.key, key);
    }
}

#[tokio::test]
async fn polygon_aggregates_have_the_window_in_the_path_and_follow_the_link_with_the_key() {
    let bank = Provider::start(("polygon", "aggregates", ""), &[("symbol", "AAPL")], |seen| {
        let bar = |t: u64, close: &str| format!(r#"{{"t": {t}, "o": 1, "h": 2, "l": 0.5, "c": {close}, "v": 12.5}}"#);
        if seen.query("cursor").is_empty() {
            assert!(seen.path.starts_with("/v2/aggs/ticker/AAPL/range/1/day/20"), "{}", seen.path);
            let next = format!("{}?cursor=two", seen.path);
            return text(&format!(r#"{{"results": [{}], "next_url": "{next}"}}"#, bar(1_788_235_200_000, "1.10")));
        }
        text(&format!(r#"{{"results": [{}]}}"#, bar(1_788_321_600_000, "1.2")))
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 2);
    assert_eq!(
        bank.columns("quotes", &["symbol", "span", "price", "volume", "quoted_on"]).await,
        [
            "AAPL:1/day:true:1788235200000 AAPL 1/day 1.1 12.5 2026-09-01",
            "AAPL:1/day:true:1788321600000 AAPL 1/day 1.2 12.5 2026-09-02"
        ]
    );
    let authorized = |seen: &crate::kit::walk_bank::Seen| seen.headers["authorization"] == format!("Bearer {KEY}");
    assert!(bank.requests().iter().all(authorized));
}

#[tokio::test]
async fn polygon_snapshots_options_and_an_empty_range_are_read() {
    let bank = Provider::start(("polygon", "quotes", ""), &[("symbol", "AAPL")], |_| {
        text(
            r#"{"status": "OK", "ticker": {"ticker": "AAPL", "updated": 1788264000000000000, "day": {"o": 1, "c": 2.5},
                "prevDay": {"c": 2}}}"#,
        )
    })
    .await;
    bank.run().await;
    assert_eq!(
        bank.columns("quotes", &["price", "previous_close", "quoted_ms"]).await,
        ["AAPL:1788264000000000000 2.5 2 1788264000000"]
    );
    let options = Provider::start(("polygon", "options", ""), &[("symbol", "SPY")], |_| {
        page(json!({"results": [{"details": {"ticker": "O:SPY251219C00650000"}, "open_interest": 12}]}))
    })
    .await;
    options.run().await;
    let all = busbar::ledger::record::TransactionFilter::default();
    assert_eq!(options.sync.ledger.list_documents(&all, 10).await.unwrap()[0].record.key, "O:SPY251219C00650000");
    let empty = Provider::start(("polygon", "aggregates", ""), &[("symbol", "X")], |_| {
        page(json!({"status": "OK", "queryCount": 0, "resultsCount": 0}))
    })
    .await;
    assert_eq!(empty.run().await.counts.fetched, 0);
}

#[tokio::test]
async fn newsapi_counts_its_pages_and_an_article_is_one_row_by_its_address() {
    let bank = Provider::start(("newsapi", "articles", "/v2"), &[("q", "bank")], |seen| {
        let article = |n: u64| {
            json!({"source": {"id": null, "name": "Example"}, "author": null, "title": format!("Title {n}"),
                   "url": format!("https://news.example/{}/{n}?id=0131883461", "x".repeat(600)),
                   "publishedAt": "2026-09-01T10:00:00Z", "content": "Call 0131883461"})
        };
        let first = 100 * (seen.query("page").parse::<u64>().unwrap() - 1);
        let articles: Vec<_> = (first..(first + 100).min(150)).map(article).collect();
        page(json!({"status": "ok", "totalResults": 150, "articles": articles}))
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 150);
    assert_eq!(bank.requests().len(), 2);
    let rows = bank.columns("articles", &["title", "source", "url"]).await;
    assert_eq!(rows.len(), 150);
    assert!(rows.iter().all(|row| row.contains("Example https://news.example/x") && row.contains("id=0131883461")));
    assert_eq!(bank.run().await.counts.inserted, 0, "the same articles");
}

#[tokio::test]
async fn finastra_collaterals_have_their_values_and_their_record() {
    let bank = Provider::start(("finastra", "collaterals", ""), &[], |_| {
        text(
            r#"{"_meta": {"totalCount": 2}, "items": [
                {"id": "COL-1", "estimatedValue": 90071992547409.93, "netCollateralAmount": 12345678901234567.89,
                 "discountedNetCollateralAmount": 1.10},
                {"id": "COL-2", "estimatedValue": {"amount": "5.00", "currency": "usd"}, "status": "Active"}]}"#,
        )
    })
    .await;
    bank.run().await;
    assert_eq!(
        bank.columns("collaterals", &["amount", "net_amount", "discounted_amount", "currency", "status"]).await,
        ["COL-1 90071992547409.93 12345678901234567.89 1.1 - -", "COL-2 5 - - USD Active"]
    );
    assert!(bank.columns("collaterals", &["body"]).await[0].contains("12345678901234567.89"));
}
