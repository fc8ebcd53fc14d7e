//! Custom profiles, as files of a folder.

use crate::profile::*;

const PROFILE: &str = "id: acme\ntitle: Acme\nbaseURL: {sandbox: 'https://api.acme.example'}\nbreaker: Api\nhealthCheck: {path: /ping}\noperations:\n  rate: {path: '/rates/{pair}', parameters: {pair: {required: true, kind: word}}}\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load(files: &[(&str, &str)]) -> Result<Profiles, String> {
    let dir = folder(files);
    let shown = format!("{}/", dir.path().display());
    Profiles::load(Some(dir.path())).map_err(|error| error.to_string().replace(&shown, ""))
}

#[test]
fn custom_profiles_have_ids_with_a_prefix() {
    let also = PROFILE.replace("acme", "fmp");
    let profiles = load(&[("b.yml", PROFILE), ("a.yaml", &also), (".hidden.yaml", "{"), ("readme.txt", "{")]).unwrap();
    assert_eq!(
        profiles.ids().filter(|id| id.starts_with(CUSTOM_PREFIX)).collect::<Vec<_>>(),
        ["profile:acme", "profile:fmp"]
    );
    assert_eq!(profiles.ids().count(), 13, "the built-in fmp is still there");
    let mine = profiles.get("profile:acme").unwrap();
    let request =
        mine.operations["rate"].request(&[("pair".to_owned(), "EURUSD".to_owned())].into(), &[].into()).unwrap();
    assert_eq!(request.path, "/rates/EURUSD");
    assert!(profiles.get("acme").is_none());
    assert_eq!(Profiles::load(None).unwrap().ids().count(), 11);
}

#[test]
fn an_invalid_file_is_reported_with_its_line_and_a_remedy() {
    let syntax = load(&[("x.yaml", "id: a\ntitle: A\nbreaker: Api\nhealthCheck: {}\nretries: 3\n")]).unwrap_err();
    assert!(syntax.starts_with("profile x.yaml: unknown field `retries`, expected one of"), "{syntax}");
    assert!(syntax.ends_with("at line 5 column 1; see docs/reference/profiles.md for the format"), "{syntax}");
    let bad = |change: &dyn Fn(&str) -> String| load(&[("x.yaml", &change(PROFILE))]).unwrap_err();
    assert_eq!(
        bad(&|text| text.replace("id: acme", "id: Acme_1")),
        "profile x.yaml: the id \"Acme_1\" is not a valid name: use at most 63 lower-case letters, digits and -, with a letter or digit at both ends"
    );
    assert_eq!(
        bad(&|text| text.replace("https:", "http:")),
        "profile x.yaml, line 3, baseURL.sandbox: must be https; a connection may use another URL with endpoint.insecure"
    );
    assert_eq!(
        bad(&|text| format!("{text}headers: {{authorization: 'Bearer canary'}}\n")),
        "profile x.yaml, line 8, headers.authorization: authorization is reserved: put credentials under auth; Busbar sets the other reserved headers"
    );
    assert_eq!(
        bad(&|text| format!("{text}secrets: {{query: [key]}}\n")
            .replace("'/rates/{pair}'", "/rates, query: {key: '{pair}'}")),
        "profile x.yaml, line 7, operations.rate.query.key: key is a secret of the connection: a caller must not set it; remove it"
    );
    let twice = load(&[("a.yaml", PROFILE), ("b.yaml", PROFILE)]).unwrap_err();
    assert_eq!(twice, "profile b.yaml: the id profile:acme is used by another profile; choose another id");
}

#[test]
fn features_of_yaml_that_would_be_misread_are_refused_by_name() {
    let with = |more: &str| load(&[("x.yaml", &format!("{PROFILE}{more}"))]).unwrap_err();
    let merge = "merge keys are not supported: write the fields out, or use an alias for a whole value";
    // In a map of names a merge key would be one more name.
    for (more, path) in [
        ("parameters: &p {a: {kind: word}}\nfeatures: {<<: *p}\n", "line 9, features.<<"),
        ("parameters: &p {a: {kind: word}}\nheaders:\n  <<: *p\n", "line 10, headers.<<"),
        ("zone: UTC\n<<: {zone: UTC}\n", "line 9, <<"),
        ("errors:\n  - {<<: {class: fatal}, status: [400]}\n", "line 9, errors[0].<<"),
        ("streams:\n  a: {<<: [{path: /a}]}\n", "line 9, streams.a.<<"),
    ] {
        assert_eq!(with(more), format!("profile x.yaml, {path}: {merge}"));
    }
    assert_eq!(
        with("zone: !zone UTC\n"),
        "profile x.yaml, line 8, zone: the YAML tag !zone is not supported: remove it"
    );
    assert_eq!(with("features: {1: true}\n"), "profile x.yaml, line 8, features.1: a key must be a text: quote it");
    for (more, said) in [
        ("features: {a: true, a: false}\n", "duplicate entry with key \"a\""),
        ("zone: UTC\nzone: UTC\n", "duplicate entry with key \"zone\""),
        ("---\nid: b\n", "more than one document"),
        ("features:\n\ta: true\n", "line 9"),
        ("features: *nowhere\n", "unknown anchor"),
    ] {
        let error = with(more);
        assert!(error.starts_with("profile x.yaml: ") && error.contains(said), "{error}");
    }
    // An alias of a whole value is what the built-in profiles use.
    load(&[("x.yaml", &format!("{PROFILE}features: &f {{a: true}}\nheaders: {{x-a: &v one, x-b: *v}}\n"))]).unwrap();
}

#[test]
fn a_profile_states_the_smallest_units_of_its_currencies() {
    let stream = "streams:\n  moves:\n    record: transaction\n    path: /moves\n    records: [/data]\n    key: /id\n    \
                  time: {pointer: /at}\n    pagination: {kind: none}\n    money:\n      amount: /amount\n      repr: \
                  minorInteger\n      currency: {kind: const, code: QQQ}\n      sign: {kind: signed}\n";
    let text = format!("{PROFILE}minorUnits: {{ISK: 2, QQQ: 3}}\n{stream}      minorUnits: {{ISK: 1}}\n");
    let profile = Profile::parse("x.yaml", &text).unwrap();
    let units = &profile.streams["moves"].money.as_ref().unwrap().minor_units;
    let places = |code: &str| units.places(crate::domain::money::Currency::parse(code).unwrap());
    assert_eq!([places("ISK"), places("QQQ"), places("EUR")], [Some(1), Some(3), Some(2)]);
    for (units, said) in [
        ("{isk: 2}", "line 8, minorUnits.isk: is not a currency: write an ISO 4217 code in upper case such as JPY"),
        ("{ISK: 9}", "line 8, minorUnits.ISK: 9 decimal places are too many: write 0 to 8"),
    ] {
        let error = load(&[("x.yaml", &format!("{PROFILE}minorUnits: {units}\n"))]).unwrap_err();
        assert_eq!(error, format!("profile x.yaml, {said}"));
    }
    let unknown = load(&[("x.yaml", &format!("{PROFILE}{stream}"))]).unwrap_err();
    assert!(unknown.contains("streams.moves.money.currency.code: \"QQQ\" is not a known currency"), "{unknown}");
}

#[test]
fn file_size_and_file_count_are_limited() {
    let large = format!("{PROFILE}# {}\n", "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap()));
    assert_eq!(
        load(&[("x.yaml", &large)]).unwrap_err(),
        "profile x.yaml: larger than 262144 bytes; split it into several profiles"
    );
    let names: Vec<_> = (0..=MAX_FILES).map(|n| format!("{n}.yaml")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), PROFILE)).collect();
    assert!(load(&many).unwrap_err().ends_with("holds more than 64 profiles; remove those that no connection uses"));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\ng: [*f, *f, *f, *f, *f, *f, *f, *f, *f]\n";
    assert!(load(&[("x.yaml", bomb)]).is_err());
    let missing = Profiles::load(Some(std::path::Path::new("/nowhere/at/all"))).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/at/all cannot be read:"), "{missing}");
}

#[test]
fn the_documented_example_is_valid() {
    let page = include_str!("../../../docs/profiles.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let profiles = load(&[("example.yaml", example)]).unwrap();
    let example = profiles.get("profile:acme-rates").unwrap();
    assert!(!example.operations.is_empty() && !example.streams.is_empty() && !example.errors.is_empty());
}

#[test]
fn endpoint_parameters_are_validated_and_get_defaults() {
    let text = format!("{PROFILE}parameters: {{region: {{enum: [eu, us], default: eu}}, tenant: {{kind: word}}}}\n");
    let profile = Profile::parse("x.yaml", &text).unwrap();
    let given = |pairs: &[(&str, &str)]| {
        profile.endpoint_parameters(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    assert_eq!(given(&[]).unwrap(), [("region".to_owned(), "eu".to_owned())].into());
    assert_eq!(given(&[("region", "asia")]).unwrap_err().to_string(), "the parameter region must be one of eu, us");
    assert!(given(&[("tenent", "t")]).unwrap_err().to_string().contains("is unknown; supported: region, tenant"));
}

#[test]
fn matchers_with_too_many_combinations_are_rejected() {
    let values = |n: usize| (0..n).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let rules: Vec<_> = (0..12).map(|n| format!("{{pointer: /p{n}, is: [{}]}}", values(20))).collect();
    let text = format!(
        "{PROFILE}errors:\n  - {{status: [429], class: quota}}\n  - {{json: [{}], class: fatal}}\n",
        rules.join(", ")
    );
    assert_eq!(
        load(&[("x.yaml", &text)]).unwrap_err(),
        "profile x.yaml, line 10, errors[1]: has too many combinations of values (over 4096 with the matchers before): list fewer values under is, or fewer conditions under json"
    );
    let many: Vec<String> = (0..257).map(|n| format!("  - {{json: [{{pointer: /p{n}}}], class: fatal}}\n")).collect();
    let many = many.concat();
    assert_eq!(
        load(&[("x.yaml", &format!("{PROFILE}errors:\n{many}"))]).unwrap_err(),
        "profile x.yaml, line 265, errors[256]: exceeds the limit of 256 matchers: remove some"
    );
    let most = (0..4).map(|n| format!("  - {{json: [{{pointer: /p{n}, is: [{}]}}], class: fatal}}\n", values(1024)));
    load(&[("x.yaml", &format!("{PROFILE}errors:\n{}", most.collect::<String>()))]).unwrap();
}

#[test]
fn the_size_of_responses_is_set_per_profile_within_bounds() {
    let with = |bytes: &str| load(&[("x.yaml", &format!("{PROFILE}maxResponseBytes: {bytes}\n"))]);
    let set = |bytes: &str| with(bytes).unwrap().get("profile:acme").unwrap().max_response_bytes;
    assert_eq!((set("65536"), set("8388608")), (MIN_RESPONSE_BYTES, MAX_RESPONSE_BYTES));
    for bad in ["65535", "8388609"] {
        assert_eq!(
            with(bad).unwrap_err(),
            format!(
                "profile x.yaml, line 8, maxResponseBytes: {bad} is out of range: set 65536 to 8388608 bytes, and request smaller pages"
            )
        );
    }
    assert!(with("-1").is_err() && with("18446744073709551616").is_err() && with("4Mi").is_err());
    let profiles = Profiles::builtin().unwrap();
    assert!(profiles.ids().all(|id| profiles.get(id).unwrap().max_response_bytes == DEFAULT_MAX_RESPONSE_BYTES));
}

#[test]
fn a_profile_has_either_webhook_or_no_webhook() {
    let both = format!("{PROFILE}webhook: {{header: x-proof, schemes: [staticSecret]}}\nnoWebhook: none\n");
    assert_eq!(
        load(&[("x.yaml", &both)]).unwrap_err(),
        "profile x.yaml, line 9, noWebhook: contradicts webhook: remove one of the two"
    );
    let profiles = Profiles::builtin().unwrap();
    for profile in profiles.ids().filter_map(|id| profiles.get(id)) {
        assert_ne!(profile.webhook.is_some(), profile.no_webhook.is_some(), "{}", profile.id);
    }
}
