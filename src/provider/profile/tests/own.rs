//! Users' own profiles, as files of a folder.

use super::super::*;

const MINE: &str = "id: acme\ntitle: Acme\nbaseURL: {sandbox: 'https://api.acme.example'}\nbreaker: Api\nhealthCheck: {path: /ping}\noperations:\n  rate: {path: '/rates/{pair}', parameters: {pair: {required: true, kind: word}}}\n";

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
fn own_profiles_are_used_beside_the_built_in_ones_under_a_name_of_their_own() {
    let also = MINE.replace("acme", "fmp");
    let profiles = load(&[("b.yml", MINE), ("a.yaml", &also), (".hidden.yaml", "{"), ("readme.txt", "{")]).unwrap();
    assert_eq!(profiles.ids().filter(|id| id.starts_with(OWN)).collect::<Vec<_>>(), ["profile:acme", "profile:fmp"]);
    assert_eq!(profiles.ids().count(), 13, "the built-in fmp is still there");
    let mine = profiles.get("profile:acme").unwrap();
    let request = mine.operations["rate"].request("rate", &[("pair".to_owned(), "EURUSD".to_owned())].into()).unwrap();
    assert_eq!(request.path, "/rates/EURUSD");
    assert!(profiles.get("acme").is_none());
    assert_eq!(Profiles::load(None).unwrap().ids().count(), 11);
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_line_and_what_to_do() {
    let syntax = load(&[("x.yaml", "id: a\ntitle: A\nbreaker: Api\nhealthCheck: {}\nretries: 3\n")]).unwrap_err();
    assert!(syntax.starts_with("profile x.yaml: unknown field `retries`, expected one of"), "{syntax}");
    assert!(syntax.ends_with("at line 5 column 1; docs/reference/profiles.md tells the format"), "{syntax}");
    let bad = |change: &dyn Fn(&str) -> String| load(&[("x.yaml", &change(MINE))]).unwrap_err();
    assert_eq!(
        bad(&|text| text.replace("id: acme", "id: Acme_1")),
        "profile x.yaml: the id \"Acme_1\" is no name: write lower-case letters, digits and -, at most 63"
    );
    assert_eq!(
        bad(&|text| text.replace("https:", "http:")),
        "profile x.yaml, line 3, baseURL.sandbox: must be https; a connection may set another address with endpoint.insecure"
    );
    assert_eq!(
        bad(&|text| format!("{text}headers: {{authorization: 'Bearer canary'}}\n")),
        "profile x.yaml, line 8, headers.authorization: authorization is not a profile's to write: credentials belong under auth, the rest is set for you"
    );
    assert_eq!(
        bad(&|text| format!("{text}secrets: {{query: [key]}}\n")
            .replace("'/rates/{pair}'", "/rates, query: {key: '{pair}'}")),
        "profile x.yaml, line 7, operations.rate.query.key: key is a secret of the connection: a caller must not set it, remove it"
    );
    let twice = load(&[("a.yaml", MINE), ("b.yaml", MINE)]).unwrap_err();
    assert_eq!(twice, "profile b.yaml: the id profile:acme is taken by another profile; choose another id");
}

#[test]
fn files_and_folders_are_read_up_to_a_cap() {
    let large = format!("{MINE}# {}\n", "x".repeat(usize::try_from(MAX_FILE).unwrap()));
    assert_eq!(
        load(&[("x.yaml", &large)]).unwrap_err(),
        "profile x.yaml: larger than 262144 bytes; split it into several profiles"
    );
    let names: Vec<_> = (0..=MAX_FILES).map(|n| format!("{n}.yaml")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), MINE)).collect();
    assert!(load(&many).unwrap_err().ends_with("holds more than 64 profiles; remove those that no connection uses"));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\ng: [*f, *f, *f, *f, *f, *f, *f, *f, *f]\n";
    assert!(load(&[("x.yaml", bomb)]).is_err());
    let missing = Profiles::load(Some(std::path::Path::new("/nowhere/at/all"))).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/at/all cannot be read:"), "{missing}");
}

#[test]
fn the_example_of_the_handbook_is_usable() {
    let page = include_str!("../../../../docs/profiles.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let profiles = load(&[("example.yaml", example)]).unwrap();
    let example = profiles.get("profile:acme-rates").unwrap();
    assert!(!example.operations.is_empty() && !example.streams.is_empty() && !example.errors.is_empty());
}

#[test]
fn parameters_of_a_connection_are_checked_and_filled() {
    let text = format!("{MINE}parameters: {{region: {{enum: [eu, us], default: eu}}, tenant: {{kind: word}}}}\n");
    let profile = Profile::parse("x.yaml", &text).unwrap();
    let given = |pairs: &[(&str, &str)]| {
        profile.endpoint_parameters(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    assert_eq!(given(&[]).unwrap(), [("region".to_owned(), "eu".to_owned())].into());
    assert_eq!(given(&[("region", "asia")]).unwrap_err().to_string(), "the parameter region must be one of eu, us");
    assert!(given(&[("tenent", "t")]).unwrap_err().to_string().contains("is not known: there are region, tenant"));
}

#[test]
fn a_file_that_would_take_for_ever_to_check_is_refused_at_once() {
    let values = |n: usize| (0..n).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let rules: Vec<_> = (0..12).map(|n| format!("{{pointer: /p{n}, is: [{}]}}", values(20))).collect();
    let text = format!(
        "{MINE}errors:\n  - {{status: [429], class: quota}}\n  - {{json: [{}], class: fatal}}\n",
        rules.join(", ")
    );
    assert_eq!(
        load(&[("x.yaml", &text)]).unwrap_err(),
        "profile x.yaml, line 10, errors[1]: names too many combinations of values (with those before, over 4096): name fewer values under is, or fewer places"
    );
    let many: Vec<String> = (0..257).map(|n| format!("  - {{json: [{{pointer: /p{n}}}], class: fatal}}\n")).collect();
    let many = many.concat();
    assert_eq!(
        load(&[("x.yaml", &format!("{MINE}errors:\n{many}"))]).unwrap_err(),
        "profile x.yaml, line 265, errors[256]: is one more than the 256 that a profile may have: remove some"
    );
    let most = (0..4).map(|n| format!("  - {{json: [{{pointer: /p{n}, is: [{}]}}], class: fatal}}\n", values(1024)));
    load(&[("x.yaml", &format!("{MINE}errors:\n{}", most.collect::<String>()))]).unwrap();
}

#[test]
fn a_profile_has_a_webhook_or_says_why_not() {
    let both = format!("{MINE}webhook: {{header: x-proof, schemes: [staticSecret]}}\nnoWebhook: none\n");
    assert_eq!(
        load(&[("x.yaml", &both)]).unwrap_err(),
        "profile x.yaml, line 9, noWebhook: says that there is none, beside webhook: remove one"
    );
    let profiles = Profiles::builtin().unwrap();
    for profile in profiles.ids().filter_map(|id| profiles.get(id)) {
        assert_ne!(profile.webhook.is_some(), profile.no_webhook.is_some(), "{}", profile.id);
    }
}
