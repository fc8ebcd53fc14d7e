mod classifier;
mod custom;
mod kinds;
mod operations;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use super::builtin::BUILTIN;
use super::*;
use crate::domain::breaker::Preset;
use crate::settings::{Draft, Settings};

#[test]
fn every_builtin_profile_parses_and_its_id_is_its_file_name() {
    let profiles = Profiles::builtin().unwrap();
    let ids: Vec<_> = profiles.ids().collect();
    assert_eq!(
        ids,
        [
            "finastra",
            "fmp",
            "fred",
            "generic",
            "gocardless",
            "mono",
            "newsapi",
            "open-banking-uk",
            "plaid",
            "polygon",
            "stripe"
        ]
    );
    for (file, text) in BUILTIN {
        assert_eq!(format!("{}.yaml", Profile::parse(file, text).unwrap().id), *file);
    }
    assert!(profiles.get("unheard-of").is_none());
}

#[test]
fn every_builtin_file_is_compiled_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/profile/builtin");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let listed: Vec<_> = BUILTIN.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(files, listed, "list the file in profile/builtin.rs");
}

#[test]
fn every_builtin_profile_resolves_for_both_environments() {
    let profiles = Profiles::builtin().unwrap();
    for profile in profiles.ids().filter_map(|id| profiles.get(id)) {
        for environment in [Environment::Sandbox, Environment::Production] {
            let mut draft = Draft::new(Arc::clone(&profile), environment);
            if draft.base_url.is_empty() {
                let error = Settings::resolve(draft.clone()).unwrap_err();
                assert_eq!(error.field, "endpoint.baseURL");
                draft.base_url = "https://bank.example".to_owned();
            }
            assert!(draft.base_url.starts_with("https://"), "{}", profile.id);
            Settings::resolve(draft).unwrap();
        }
    }
}

#[test]
fn presets_and_health_checks_match_the_requirements() {
    let profiles = Profiles::builtin().unwrap();
    let of = |id: &str| profiles.get(id).unwrap();
    for id in ["fmp", "polygon", "fred", "newsapi"] {
        assert_eq!(of(id).breaker, Preset::Data, "{id}");
        assert_eq!(of(id).health_check.mode, CheckMode::Passive, "{id}: metered");
    }
    let seconds = |id: &str| of(id).timeouts.request.as_secs();
    assert_eq!([seconds("fmp"), seconds("polygon"), seconds("fred"), seconds("newsapi")], [5, 5, 10, 3]);
    assert_eq!(of("finastra").breaker, Preset::Api);
    assert_eq!(of("generic").breaker, Preset::Bank);
    let bank = &of("generic").health_check;
    assert_eq!((bank.interval.as_secs(), bank.timeout.as_secs()), (30, 5));
}

#[test]
fn mono_transactions_match_the_documentation() {
    let mono = Profiles::builtin().unwrap().get("mono").unwrap();
    let stream = &mono.streams["transactions"];
    assert_eq!(stream.required_parameters(), ["accountId"]);
    assert_eq!(stream.records, ["/data", "/data/transactions"]);
    let Pagination::Page { parameter, next, .. } = &stream.pagination else { panic!("paged") };
    assert_eq!((parameter.as_str(), next.len()), ("page", 2));
    let window = stream.window.as_ref().unwrap();
    let day = jiff::civil::date(2026, 3, 9);
    assert_eq!(jiff::fmt::strtime::format(window.format.as_deref().unwrap(), day).unwrap(), "09-03-2026");
    assert!(window.lookback >= Duration::from_hours(24), "the provider filters by whole days");
    let money = stream.money.as_ref().unwrap();
    assert_eq!(money.repr, AmountRepr::MinorInteger);
    assert!(matches!(money.currency, CurrencySource::Join { .. }));
    assert_eq!(mono.auth.as_ref().unwrap().headers[0].name, "mono-sec-key");
    assert_eq!(mono.auth.as_ref().unwrap().secret_keys(), ["api-key"]);
}

#[test]
fn an_unknown_field_is_reported_with_its_line() {
    let text = "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {}\nspeed: high\n";
    let error = Profile::parse("x.yaml", text).unwrap_err().to_string();
    assert!(error.contains("x.yaml") && error.contains("speed") && error.contains("line 5"), "{error}");
}

#[test]
fn a_duplicate_id_is_rejected() {
    let mut profiles = Profiles::builtin().unwrap();
    let text = "id: generic\ntitle: X\nbreaker: Bank\nhealthCheck: {}\n";
    assert!(matches!(profiles.add("mine.yaml", text), Err(ProfileError::Duplicate { .. })));
}
