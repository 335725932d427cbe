use std::{collections::BTreeSet, fs};

use proptest::prelude::*;

use super::{keys::KEYS, *};
use crate::entity::{CONTACTS, LEADS};

const EXAMPLE: &str = include_str!("../../config.example.toml");
const SECRET: &str = "s3cr3tw3bh00k";

struct Layers {
    home: tempfile::TempDir,
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    credentials: Option<PathBuf>,
}

impl Layers {
    fn none() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, file: None, environment: BTreeMap::new(), credentials: None }
    }

    fn file(toml: &str) -> Self {
        let mut layers = Self::none();
        layers.file = Some(layers.put("config.toml", toml));
        layers
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn credential(mut self, name: &str, text: &str) -> Self {
        self.put(&format!("credentials/{name}"), text);
        self.credentials = Some(self.home.path().join("credentials"));
        self
    }

    fn load(&self) -> Result<Settings, SettingsError> {
        Settings::from_layers(self.file.clone(), self.environment.clone(), self.credentials.clone())
    }

    /// The error's text with the changing directory taken out.
    fn refused(&self) -> String {
        let text = self.load().expect_err("it is refused").to_string();
        text.replace(&self.home.path().display().to_string(), "HOME")
    }
}

fn webhook(settings: &Settings) -> &str {
    settings.webhook_url().unwrap().expose_secret()
}

fn database_url(settings: &Settings) -> &str {
    match settings.database_source().unwrap() {
        DatabaseSource::Url(url) => url.expose_secret(),
        DatabaseSource::LocalDirectory(directory) => panic!("a directory: {directory:?}"),
    }
}

/// The example with every commented-out key put to work.
fn example_in_full() -> String {
    let is_key = |line: &str| {
        line.strip_prefix("# ")
            .and_then(|rest| rest.split_once(" = "))
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    EXAMPLE
        .lines()
        .map(|line| if is_key(line) { line.strip_prefix("# ").unwrap() } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_mentions_every_key_and_no_other() {
    let example = example_in_full();
    let mut section = "";
    let mut mentioned = BTreeSet::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(mentioned.insert(format!("{section}.{name}")), "{line} comes twice");
        }
    }
    assert_eq!(mentioned, KEYS.iter().map(|key| (*key).to_owned()).collect());
}

#[test]
fn the_example_says_the_defaults() {
    let empty = Layers::none().load().unwrap();
    let example = Layers::file(EXAMPLE).load().unwrap();
    assert_eq!(format!("{:?}", Settings { file: None, ..example }), format!("{empty:?}"));

    // The commented keys that have a default as well.
    let keyless = [
        "webhook_url",
        "ca_file",
        "url",
        "url_file",
        "local_dir",
        "webhook_url_file",
        "api_key",
        "api_key_file",
        "session_token",
        "session_token_file",
        "keep_history",
        "time_zone",
        "default_region",
        "host",
        "portal_host",
        "client_id",
        "client_secret",
        "client_secret_file",
        "refresh_token",
        "refresh_token_file",
        "token_server",
        "token_key",
        "token_key_file",
    ];
    let full: Vec<String> = example_in_full()
        .lines()
        .filter(|line| !keyless.iter().any(|key| line.starts_with(&format!("{key} = "))))
        .map(str::to_owned)
        .collect();
    let full = Layers::file(&full.join("\n")).load().unwrap();
    assert_eq!(format!("{:?}", Settings { file: None, ..full }), format!("{empty:?}"));
}

#[test]
fn the_gateway_is_set_beside_the_portal() {
    let settings = Layers::none().load().unwrap();
    assert_eq!(settings.portal.vibecode.url.host(), "vibecode.bitrix24.tech");
    let missing = settings.portal.vibecode.api_key().unwrap_err().to_string();
    assert!(missing.contains("`portal.vibecode.api_key` is not set"), "{missing}");
    let file = "[entities]\ncontacts.source = \"vibecode\"\ncompanies.source = \"vibecode\"\n";
    let settings = Layers::file(file).load().unwrap();
    for name in ["contacts", "companies"] {
        assert_eq!(settings.entities.by_name(name).unwrap().source, Dialect::Vibecode);
    }
    for (file, key) in [
        ("[portal.vibecode]\nurl = \"http://example.com\"", "portal.vibecode.url"),
        ("[entities]\ncompanies.source = \"classic\"", "entities.companies.source"),
    ] {
        let refused = Layers::file(file).load().unwrap_err().to_string();
        assert!(refused.contains(key), "{refused}");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let settings = Layers::none().load().unwrap();
    assert_eq!(settings.portal.timeout, Duration::from_secs(75));
    assert_eq!(settings.portal.max_body, 32 << 20);
    assert_eq!(settings.portal.limits.operating_time, Some(Duration::from_mins(8)));
    assert_eq!(settings.database.schema, "bitrix24");
    assert_eq!(settings.reporting.schema, "bitrix24_report");
    assert_eq!(settings.sync.interval, Duration::from_secs(15));
    assert_eq!(settings.sync.overlap, Duration::from_mins(2));
    assert!(settings.database.migrate);
    assert_eq!(settings.log, LogSettings { format: LogFormat::Text, level: LogLevel::INFO });
}

#[test]
fn the_environment_overrides_the_file() {
    let settings = Layers::file(
        "[sync]\ninterval = \"20s\"\noverlap = \"3m\"\n[portal.limits]\nplan = \"enterprise\"\n",
    )
    .env("B24MIRROR__SYNC__INTERVAL", "1s")
    .env("B24MIRROR__PORTAL__LIMITS__REQUESTS_PER_SECOND", "7")
    .env("B24MIRROR__DATABASE__MIGRATE", "false")
    .env("B24MIRROR__ENTITIES__LEADS__INTERVAL", "1m")
    .load()
    .unwrap();

    assert_eq!(settings.sync.interval, Duration::from_secs(1));
    assert_eq!(settings.sync.overlap, Duration::from_mins(3));
    assert_eq!(settings.portal.limits.burst, 250);
    assert!((settings.portal.limits.requests_per_second - 7.0).abs() < f64::EPSILON);
    assert!(!settings.database.migrate);
    let of = |name| settings.entities.by_name(name).unwrap().interval;
    assert_eq!((of("contacts"), of("leads")), (Duration::from_secs(1), Duration::from_mins(1)));
}

#[test]
fn a_plan_decides_what_is_not_set() {
    let limits = |toml: &str| Layers::file(toml).load().unwrap().portal.limits;
    let own = limits("[portal.limits]\nplan = \"self_hosted\"\n");
    assert_eq!(own.operating_time, None);
    let own = limits("[portal.limits]\nplan = \"self_hosted\"\noperating_seconds = 60\n");
    assert_eq!(own.operating_time, Some(Duration::from_mins(1)));
}

#[test]
fn restraint_is_read_from_the_file_or_the_environment() {
    let restraint = |layers: &Layers| layers.load().unwrap().portal.limits.restraint;
    assert_eq!(restraint(&Layers::none()), Restraint::default());
    let spans = ["mon-fri 09:00-18:00", "sat 22:00-06:00"];
    let wanted = Restraint {
        share: Share::new(0.3).unwrap(),
        quiet_hours: QuietHours::parse(&spans).unwrap(),
    };
    let file = format!("[portal.limits]\nshare = 0.3\nquiet_hours = {spans:?}\n");
    assert_eq!(restraint(&Layers::file(&file)), wanted);
    let environment = Layers::none()
        .env("B24MIRROR__PORTAL__LIMITS__SHARE", "0.3")
        .env("B24MIRROR__PORTAL__LIMITS__QUIET_HOURS", "mon-fri 09:00-18:00; sat 22:00-06:00");
    assert_eq!(restraint(&environment), wanted);
}

#[test]
fn secrets_come_from_the_upper_layer_a_file_or_a_credential() {
    let webhook_file = Layers::none();
    let path = webhook_file.put("webhook", &format!("  https://x/rest/1/{SECRET}/\n"));
    let in_file = format!("[portal]\nwebhook_url_file = {path:?}\n");

    let settings = Layers::file(&in_file).load().unwrap();
    assert_eq!(webhook(&settings), format!("https://x/rest/1/{SECRET}/"));
    assert!(!format!("{settings:?}").contains(SECRET));

    let above = Layers::file(&in_file).env("B24MIRROR__PORTAL__WEBHOOK_URL", "https://above/");
    assert_eq!(webhook(&above.load().unwrap()), "https://above/");

    let credentials = Layers::file("")
        .credential("webhook_url", "https://credential/\n")
        .credential("database_url", "postgres://credential/crm\n");
    let settings = credentials.load().unwrap();
    assert_eq!(webhook(&settings), "https://credential/");
    assert_eq!(database_url(&settings), "postgres://credential/crm");

    let beaten = credentials
        .env("B24MIRROR__PORTAL__WEBHOOK_URL", "https://above/")
        .env("B24MIRROR__DATABASE__LOCAL_DIR", "/srv/pg");
    let settings = beaten.load().unwrap();
    assert_eq!(webhook(&settings), "https://above/");
    assert!(matches!(
        settings.database_source().unwrap(),
        DatabaseSource::LocalDirectory(directory) if directory == Path::new("/srv/pg")
    ));
}

#[test]
fn an_empty_credential_counts_as_none_and_a_bad_one_is_named() {
    let settings = Layers::none().credential("webhook_url", "\n").load().unwrap();
    assert!(settings.portal.webhook_url.is_none());
    let error = Layers::none().credential("database_url", "mysql://x/y").refused();
    let named =
        "`database.url` in the credential HOME/credentials/database_url is not a PostgreSQL";
    assert!(error.starts_with(named), "{error}");
}

#[test]
fn where_there_is_a_gateway_alone_everything_is_read_through_it() {
    let alone = "[portal.vibecode]\nportal_host = \"Example.bitrix24.com\"\n";
    let settings = Layers::file(alone).load().unwrap();
    let portal = settings.portal.vibecode.portal_host.unwrap();
    assert_eq!(portal.name(), "example.bitrix24.com");
    for entity in [&CONTACTS, &LEADS] {
        let read = settings.entities.by_name(entity.name).unwrap();
        assert!(read.enabled && read.source == Dialect::Vibecode, "{}", entity.name);
    }
    for (more, named) in [
        (
            "[portal]\nwebhook_url = \"https://example.bitrix24.com/rest/1/a/\"",
            "exclude each other",
        ),
        ("[portal.oauth]\nhost = \"example.bitrix24.com\"", "exclude each other"),
        ("[entities]\nleads.source = \"item\"", "`entities.leads.source`"),
        ("[entities]\nsmart_items.enabled = true", "`entities.smart_items.enabled`"),
    ] {
        let error = Layers::file(&format!("{alone}{more}\n")).refused();
        assert!(error.contains(named), "{error}");
    }
    let address = alone.replace("Example.", "https://example.");
    let error = Layers::file(&address).refused();
    assert!(error.contains("the portal's host and nothing else"), "{error}");
}

#[test]
fn what_a_command_needs_and_nobody_set_is_named() {
    let settings = Layers::none().load().unwrap();
    assert_eq!(
        settings.webhook_url().unwrap_err().to_string(),
        "`portal.webhook_url` is not set; set it in the settings file, name a file with \
         `portal.webhook_url_file`, or set B24MIRROR__PORTAL__WEBHOOK_URL in the environment; \
         or describe an application with `portal.oauth`; or name the portal with \
         `portal.vibecode.portal_host`, if there is a gateway's key alone"
    );
    let error = settings.database_source().unwrap_err().to_string();
    assert!(error.contains("`database.url`") && error.contains("B24MIRROR__DATABASE__URL"));
}

#[test]
fn a_misspelt_key_is_answered_with_the_right_one() {
    for (toml, key, meant) in [
        ("[portal]\nwebhok_url = \"x\"", "portal.webhok_url", "portal.webhook_url"),
        ("[sync]\nintervall = \"1s\"", "sync.intervall", "sync.interval"),
        ("[portal.limit]\nburst = 3", "portal.limit", "portal.limits"),
        ("[portal]\nburst = 3", "portal.burst", "portal.limits.burst"),
        ("[portal]\nmigrate = false", "portal.migrate", "database.migrate"),
        ("[entities.contact]\nenabled = true", "entities.contact", "entities.contacts"),
        ("[datbase]\nurl = \"x\"", "datbase", "database"),
        ("webhook_url = \"x\"", "webhook_url", "portal.webhook_url"),
    ] {
        assert_eq!(
            Layers::file(toml).refused(),
            format!("unknown setting `{key}` in HOME/config.toml; did you mean `{meant}`?")
        );
    }
    for (toml, key, belongs) in [
        (
            "[sync]\nsource = \"item\"",
            "sync.source",
            "`source` belongs to [entities.contacts], [entities.leads] or [entities.companies]",
        ),
        (
            "[entities.deals]\nsource = \"item\"",
            "entities.deals.source",
            "`source` belongs to [entities.contacts], [entities.leads] or [entities.companies]",
        ),
        (
            "[entities.contacts]\nproduct_rows = true",
            "entities.contacts.product_rows",
            "`product_rows` belongs to [entities.leads], [entities.deals], [entities.quotes] or \
             [entities.smart_invoices]",
        ),
        ("[portal]\nurl = \"x\"", "portal.url", "`url` belongs to [portal.vibecode] or [database]"),
        (
            "[database]\nhash_fields = [\"PHONE\"]",
            "database.hash_fields",
            "`hash_fields` belongs to the section of an entity, such as [entities.contacts]",
        ),
    ] {
        assert_eq!(
            Layers::file(toml).refused(),
            format!("unknown setting `{key}` in HOME/config.toml; {belongs}")
        );
    }
    assert_eq!(
        Layers::none().env("B24MIRROR__ENTITIES__QUOTES__SOURCE", "item").refused(),
        "unknown setting `entities.quotes.source` in the environment \
         (B24MIRROR__ENTITIES__QUOTES__SOURCE); `source` belongs to [entities.contacts], \
         [entities.leads] or [entities.companies]"
    );
    assert_eq!(
        Layers::none().env("B24MIRROR__SYNC__INTERVALL", "1s").refused(),
        "unknown setting `sync.intervall` in the environment (B24MIRROR__SYNC__INTERVALL); \
         did you mean B24MIRROR__SYNC__INTERVAL?"
    );
    assert_eq!(
        Layers::file("[weather]\n").refused(),
        "unknown setting `weather` in HOME/config.toml; config.example.toml lists every setting"
    );
}

const TOKEN_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A whole `[portal.oauth]`, without these keys and with these lines.
fn application(without: &[&str], with: &str) -> String {
    let mut lines = vec![
        "host = \"example.bitrix24.com\"".to_owned(),
        "client_id = \"local.1\"".to_owned(),
        format!("client_secret = \"{SECRET}\""),
        format!("refresh_token = \"{SECRET}\""),
        format!("token_key = \"{TOKEN_KEY}\""),
    ];
    lines.retain(|line| !without.iter().any(|key| line.starts_with(key)));
    format!("[portal.oauth]\n{}\n{with}\n", lines.join("\n"))
}

#[test]
fn an_application_stands_in_place_of_a_webhook() {
    let settings = Layers::file(&application(&[], "")).load().unwrap();
    let oauth = settings.portal.oauth.as_ref().unwrap();
    assert_eq!(oauth.application.host(), "example.bitrix24.com");
    let shown = format!("{settings:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(TOKEN_KEY), "{shown}");
    assert!(Layers::none().load().unwrap().portal.oauth.is_none());

    // What the unit hands over does not compete with what the settings say.
    let secrets = Layers::file(&application(&["client_secret", "refresh_token", "token_key"], ""))
        .credential("webhook_url", "https://credential/")
        .credential("oauth_client_secret", SECRET)
        .credential("oauth_refresh_token", SECRET)
        .credential("oauth_token_key", TOKEN_KEY);
    let settings = secrets.load().unwrap();
    assert!(settings.portal.oauth.is_some() && settings.portal.webhook_url.is_none());
    let same = oauth.application.fingerprint();
    assert_eq!(settings.portal.oauth.unwrap().application.fingerprint(), same);

    let in_files = Layers::none();
    let path = in_files.put("secret", &format!("{SECRET}\n"));
    let toml = application(&["refresh_token"], &format!("refresh_token_file = {path:?}"));
    let settings = Layers::file(&toml).load().unwrap();
    assert_eq!(settings.portal.oauth.unwrap().application.fingerprint(), same);
}

#[test]
fn an_application_that_is_not_whole_is_refused_by_the_key_that_lacks() {
    for key in ["host", "client_id", "client_secret", "refresh_token", "token_key"] {
        let text = Layers::file(&application(&[key], "")).refused();
        assert!(text.starts_with(&format!("`portal.oauth.{key}` in HOME/config.toml")), "{text}");
        assert!(text.contains("is not set; give "), "{text}");
    }
    for (key, line, problem) in [
        ("host", "host = \"https://example.com/\"", "must be the portal's host and nothing else"),
        ("token_key", "token_key = \"s3cr3tw3bh00k\"", "must be 32 bytes in hexadecimal or base64"),
        (
            "token_server",
            "token_server = \"http://example.com/\"",
            "must be an address that begins",
        ),
    ] {
        let text = Layers::file(&application(&[key], line)).refused();
        assert!(text.contains(&format!("`portal.oauth.{key}`")), "{text}");
        assert!(text.contains(problem) && !text.contains(SECRET), "{text}");
    }
    let both = format!("[portal]\nwebhook_url = \"https://x/rest/1/a/\"\n{}", application(&[], ""));
    assert_eq!(
        Layers::file(&both).refused(),
        "`portal.webhook_url` and `portal.oauth.host` in HOME/config.toml exclude each other; keep \
         one of them"
    );
    let twice = application(&[], "client_secret_file = \"/etc/secret\"");
    let text = Layers::file(&twice).refused();
    assert!(
        text.contains("`portal.oauth.client_secret_file`") && text.contains("exclude"),
        "{text}"
    );
}

#[test]
fn nonsense_is_refused_with_the_right_form() {
    let time = "must be a time with its unit, such as";
    for (toml, key, problem) in [
        ("[sync]\ninterval = \"0s\"", "sync.interval", time),
        ("[sync]\ninterval = 15", "sync.interval", "such as \"15s\", from 100ms to 1day"),
        ("[sync]\ninterval = \"-3s\"", "sync.interval", time),
        ("[sync]\noverlap = \"soon\"", "sync.overlap", time),
        ("[sync]\nsweep_interval = \"0s\"", "sync.sweep_interval", time),
        ("[sync]\nmax_delete_share = 2", "sync.max_delete_share", "a number from 0 to 1"),
        ("[sync]\nrolling_check_days = 400", "sync.rolling_check_days", "from 0 to 366"),
        ("[sync]\nkeep_runs = \"1h\"", "sync.keep_runs", "such as \"90d\", from 1day to 36600d"),
        ("[portal]\ntimeout = \"2 years\"", "portal.timeout", time),
        ("[portal]\nmax_body = 32", "portal.max_body", "such as \"32.0 MiB\""),
        ("[portal]\nmax_body = \"0B\"", "portal.max_body", "must be a size"),
        ("[portal]\nmax_body = \"32\"", "portal.max_body", "must be a size"),
        ("[portal]\nwebhook_url = \" \"", "portal.webhook_url", "is empty"),
        ("[portal]\nwebhook_url = 5", "portal.webhook_url", "must be text in quotes"),
        ("[portal.limits]\nburst = 0", "portal.limits.burst", "whole number from 1 to 100000"),
        ("[portal.limits]\nburst = 2.5", "portal.limits.burst", "whole number"),
        (
            "[portal.limits]\nrequests_per_second = -1",
            "portal.limits.requests_per_second",
            "number from 0.01 to 1000",
        ),
        (
            "[portal.limits]\nrequests_per_second = nan",
            "portal.limits.requests_per_second",
            "must be a number",
        ),
        ("[portal.limits]\nshare = 0", "portal.limits.share", "above 0 and at most 1, such as 0.3"),
        ("[portal.limits]\nshare = 1.01", "portal.limits.share", "above 0 and at most 1"),
        ("[portal.limits]\nshare = \"a third\"", "portal.limits.share", "must be a number"),
        (
            "[portal.limits]\nquiet_hours = \"mon 09:00-18:00\"",
            "portal.limits.quiet_hours",
            "must be a list of texts in quotes, such as [\"mon-fri 09:00-18:00\"]",
        ),
        (
            "[portal.limits]\nquiet_hours = [\"mon 09:00-18:00\", \"tue 9-18\"]",
            "portal.limits.quiet_hours",
            "cannot be used: span 2 has a time that is not from 00:00 to 24:00; write it like",
        ),
        (
            "[portal.limits]\nquiet_hours = [\"mon-sun 00:00-24:00\"]",
            "portal.limits.quiet_hours",
            "the whole week",
        ),
        ("[portal.limits]\nplan = \"free\"", "portal.limits.plan", "\"standard\", \"enterprise\""),
        ("[database]\nschema = \"Bitrix; drop\"", "database.schema", "must be a plain name"),
        ("[database]\nschema = \"pg_temp\"", "database.schema", "must be a plain name"),
        ("[database]\nmax_connections = 1", "database.max_connections", "from 4 to 1000"),
        ("[database]\nmigrate = \"yes\"", "database.migrate", "must be true or false"),
        ("[database]\nurl = \"mysql://x/y\"", "database.url", "is not a PostgreSQL address"),
        ("[reporting]\nschema = \"Reports\"", "reporting.schema", "must be a plain name"),
        (
            "[reporting]\nschema = \"bitrix24\"",
            "reporting.schema",
            "is the schema of the mirror's own tables (`database.schema`); give the views another",
        ),
        (
            "[reporting]\ntime_zone = \"Moscow\"",
            "reporting.time_zone",
            "must be a time zone's name, such as \"Europe/Berlin\"",
        ),
        (
            "[reporting]\ndefault_region = \"Germany\"",
            "reporting.default_region",
            "must be the two letters of a country, such as \"DE\"",
        ),
        ("[log]\nlevel = \"loud\"", "log.level", "must be one of \"error\", \"warn\""),
        ("portal = 5", "portal", "is a section, not a value; write [portal]"),
        (
            "[entities]\ncontacts.enabled = false\nleads.enabled = false",
            "entities.contacts.enabled",
            "leaves nothing to mirror",
        ),
    ] {
        let error = Layers::file(toml).refused();
        let start = format!("`{key}` in HOME/config.toml ");
        assert!(error.starts_with(&start) && error.contains(problem), "{toml}: {error}");
    }
    assert!(
        Layers::none()
            .env("B24MIRROR__LOG__LEVEL", "loud")
            .refused()
            .starts_with("`log.level` in the environment (B24MIRROR__LOG__LEVEL) must be one of")
    );
}

#[test]
fn nought_days_switch_the_rolling_check_off() {
    let rolling = |toml: &str| Layers::file(toml).load().unwrap().sync.rolling_check;
    assert_eq!(rolling(""), Some(Duration::from_hours(24 * 7)));
    assert_eq!(rolling("[sync]\nrolling_check_days = 1"), Some(Duration::from_hours(24)));
    assert_eq!(rolling("[sync]\nrolling_check_days = 0"), None);
}

#[test]
fn the_report_schema_is_named_after_the_data_schema() {
    let reporting = |toml: &str| Layers::file(toml).load().unwrap().reporting;
    assert_eq!(reporting("[database]\nschema = \"crm\"").schema, "crm_report");
    let set = "[reporting]\nschema = \"r\"\ntime_zone = \"Asia/Tokyo\"\ndefault_region = \"jp\"";
    let expected = ReportingSettings {
        schema: "r".to_owned(),
        time_zone: Some(Tz::Asia__Tokyo),
        default_region: Some("JP".to_owned()),
    };
    assert_eq!(reporting(set), expected);

    let long = format!("[database]\nschema = \"{}\"", "x".repeat(60));
    assert!(Layers::file(&long).refused().starts_with("`reporting.schema` in"));
}

#[test]
fn two_answers_to_one_question_are_refused() {
    assert_eq!(
        Layers::file("[database]\nurl = \"postgres:///x\"\nlocal_dir = \"/x\"\n").refused(),
        "`database.url` and `database.local_dir` in HOME/config.toml exclude each other; \
         keep one of them"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let mut layers = Layers::none();
    layers.file = Some(layers.home.path().join("nowhere.toml"));
    assert!(layers.refused().starts_with("cannot read HOME/nowhere.toml; check that it exists"));

    for (section, key) in
        [("portal", "webhook_url_file"), ("portal", "ca_file"), ("database", "url_file")]
    {
        let error = Layers::file(&format!("[{section}]\n{key} = \"/nowhere/x\"\n")).refused();
        let named = format!("cannot read /nowhere/x, which `{section}.{key}` names; check");
        assert!(error.starts_with(&named), "{error}");
    }
    let empty = Layers::none();
    let path = empty.put("webhook", " \n");
    let error = Layers::file(&format!("[portal]\nwebhook_url_file = {path:?}\n")).refused();
    assert!(error.contains("`portal.webhook_url_file`") && error.contains("is empty"), "{error}");
}

#[test]
fn a_file_that_is_not_toml_is_refused_without_quoting_it() {
    let error = Layers::file(&format!("[portal]\nwebhook_url = https://x/{SECRET}\n")).refused();
    assert!(error.starts_with("HOME/config.toml is not valid TOML: at line 2, column"), "{error}");
    assert!(!error.contains(SECRET), "{error}");
}

/// One of the places where a secret could be written, rightly or wrongly.
fn misplaced() -> impl Strategy<Value = String> {
    let key = proptest::sample::select(KEYS.to_vec());
    let quote = proptest::sample::select(vec!["\"", "", "'", "\"\"\"", "["]);
    (key, quote, quote_end()).prop_map(|(key, before, after)| {
        let (section, name) = key.rsplit_once('.').unwrap();
        format!("[{section}]\n{name} = {before}https://x/rest/1/{SECRET}/{after}\n")
    })
}

fn quote_end() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["\"", "", "'", "\"\"\"", "]", "\" x"])
}

proptest! {
    #[test]
    fn no_error_repeats_a_secret_wherever_it_was_written(toml in misplaced()) {
        let layers = Layers::file(&toml);
        match layers.load() {
            // Only where a secret belongs may it be accepted, and what belongs there is not shown.
            Ok(settings) => {
                let shown = format!("{settings:?}");
                prop_assert!(!shown.contains(SECRET), "{}", shown);
                prop_assert!(shown.contains("REDACTED"), "{}", shown);
            }
            Err(error) => {
                let mut text = format!("{error} {error:?}");
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    text += &cause.to_string();
                    source = cause.source();
                }
                prop_assert!(!text.contains(SECRET), "{}", text);
            }
        }
    }
}
