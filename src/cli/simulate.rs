//! `b24mirror simulate`: a portal on loopback to try things out on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use chrono_tz::Tz;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::simulator::{
    ApplicationOptions, Booking, BucketLimit, Cost, GatewayOptions, OperatingLimit, Options,
    Simulator,
};

/// What the help ends with; the start prints the same for the address that it has got.
pub(super) const HOW_TO_REACH_IT: &str = "\
At one address it answers as a portal does, to a webhook and to an application (/rest/…), and as
the gateway does (/v1/…). When it has started it prints the settings that point b24mirror at each
of them. Contacts through the gateway:

  [portal]
  webhook_url = \"http://127.0.0.1:8480/rest/1/s1mul4tedsecret0/\"

  [portal.vibecode]
  url = \"http://127.0.0.1:8480\"
  api_key = \"vibe_api_s1mul4ted\"

  [entities.contacts]
  source = \"vibecode\"";

/// Arguments of `simulate`.
#[derive(Clone, Debug, Args)]
pub(super) struct SimulateArgs {
    /// Port to listen on, 0 for a free one
    #[arg(long, default_value_t = 8480)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Contacts
    #[arg(long, default_value_t = 20_000)]
    contacts: u64,
    /// Leads
    #[arg(long, default_value_t = 5_000)]
    leads: u64,
    /// Companies; these and the following are in crm.item.list only
    #[arg(long, default_value_t = 0)]
    companies: u64,
    /// Deals
    #[arg(long, default_value_t = 0)]
    deals: u64,
    /// Quotes
    #[arg(long, default_value_t = 0)]
    quotes: u64,
    /// Smart invoices
    #[arg(long, default_value_t = 0)]
    smart_invoices: u64,
    /// Records of a smart process with stages and clients
    #[arg(long, default_value_t = 0)]
    projects: u64,
    /// Records of a smart process without any of that
    #[arg(long, default_value_t = 0)]
    equipment: u64,
    /// Activities
    #[arg(long, default_value_t = 0)]
    activities: u64,
    /// Entries of the mail address book of the webhook's user
    #[arg(long, default_value_t = 0)]
    recipients: u64,
    /// The data are the same for the same seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Percent of IDs that are missing
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=95))]
    gaps: u64,
    /// One record in so many has a malformed value, 0 for none
    #[arg(long, default_value_t = 150)]
    malformed: u64,
    /// The portal's time zone
    #[arg(long, default_value = "Europe/Moscow", value_parser = zone)]
    zone: Tz,
    /// Time that passes before each request is looked at
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Operating time that each command costs
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    cost: Duration,
    /// Lets the cost of commands really pass instead of booking it only
    #[arg(long)]
    real_cost: bool,
    /// Requests above which the portal refuses, 0 for no request limit
    #[arg(long, default_value_t = 50)]
    bucket: u32,
    /// Requests per second that the bucket loses
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// Operating seconds of a method in a window, 0 for no operating limit
    #[arg(long, default_value_t = 480)]
    operating_limit: u32,
    /// The operating limit's window
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    operating_window: Duration,
    /// Where operating time is booked: on each command's method, or on `batch` as a whole
    #[arg(long, value_parser = ["command", "batch"], default_value = "command")]
    operating_booking: String,
    /// Answers without figures of operating time
    #[arg(long)]
    operating_silent: bool,
    /// Answers in plain UTF-8 instead of escapes
    #[arg(long)]
    plain_utf8: bool,
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| format!("{text} is no IANA zone; write it like Europe/Moscow"))
}

impl SimulateArgs {
    fn options(&self) -> Options {
        let cost =
            Cost { seconds: self.cost.as_secs_f64(), count_seconds: 0.0, real: self.real_cost };
        Options {
            host: self.host,
            port: self.port,
            contacts: self.contacts,
            leads: self.leads,
            companies: self.companies,
            deals: self.deals,
            quotes: self.quotes,
            smart_invoices: self.smart_invoices,
            projects: self.projects,
            equipment: self.equipment,
            activities: self.activities,
            recipients: self.recipients,
            seed: self.seed,
            gaps: self.gaps,
            malformed: self.malformed,
            unseen_targets: false,
            zone: self.zone,
            latency: self.latency,
            costs: BTreeMap::from([("*".to_owned(), cost)]),
            bucket: (self.bucket > 0).then(|| BucketLimit {
                threshold: f64::from(self.bucket),
                rate: self.rate,
                ..BucketLimit::default()
            }),
            operating: (self.operating_limit > 0).then(|| OperatingLimit {
                limit: f64::from(self.operating_limit),
                window: self.operating_window.as_secs_f64().max(0.1),
                booking: match self.operating_booking.as_str() {
                    "batch" => Booking::Batch,
                    _ => Booking::Command,
                },
                report: !self.operating_silent,
                ..OperatingLimit::default()
            }),
            plain_utf8: self.plain_utf8,
            ..Options::default()
        }
    }
}

/// Serves a simulated portal until the token is cancelled.
pub(super) async fn run(args: SimulateArgs, until: CancellationToken) -> anyhow::Result<()> {
    let (contacts, leads) = (args.contacts, args.leads);
    let simulator = Simulator::start(args.options()).context("the simulator did not start")?;
    let webhook = simulator.webhook_url();
    let control = simulator.control_url();
    let ApplicationOptions { client_id, client_secret, refresh_token, .. } =
        ApplicationOptions::default();
    let GatewayOptions { api_key, .. } = GatewayOptions::default();
    let url = simulator.url();
    let host = url.trim_start_matches("http://");
    // The secrets are the simulator's own and open nothing else.
    let text = format!(
        "A simulated portal with {contacts} contacts and {leads} leads is running.\n\n\
         webhook  {webhook}\n\
         control  {control}\n\n\
         Mirror it:\n  \
         B24MIRROR__PORTAL__WEBHOOK_URL={webhook} \
         B24MIRROR__DATABASE__LOCAL_DIR=/var/tmp/b24mirror b24mirror run\n\
         Or as an application (`portal.oauth`):\n  \
         host = \"{host}\"\n  \
         client_id = \"{client_id}\"\n  \
         client_secret = \"{client_secret}\"\n  \
         refresh_token = \"{refresh_token}\"\n\
         Or through the gateway, which answers at {url}/v1/ and needs the webhook beside it:\n  \
         B24MIRROR__PORTAL__VIBECODE__URL={url} \
         B24MIRROR__PORTAL__VIBECODE__API_KEY={api_key} \
         B24MIRROR__ENTITIES__CONTACTS__SOURCE=vibecode \
         B24MIRROR__PORTAL__WEBHOOK_URL={webhook} \
         B24MIRROR__DATABASE__LOCAL_DIR=/var/tmp/b24mirror b24mirror run\n\
         Look at it:\n  \
         curl '{webhook}crm.contact.list?order[ID]=ASC&select[]=ID&select[]=NAME' -g\n  \
         curl -H 'X-Api-Key: {api_key}' '{url}/v1/contacts?limit=2'\n  \
         curl {control}/stats\n  \
         curl {control}/truth/contacts | head -1\n\
         Change something:\n  \
         curl {control}/action -d '{{\"action\":\"change\",\"entity\":\"contacts\",\"count\":10}}'\n  \
         curl {control}/action -d '{{\"action\":\"delete\",\"entity\":\"leads\",\"count\":3}}'\n  \
         curl {control}/action -d '{{\"action\":\"set_zone\",\"zone\":\"Europe/Berlin\"}}'\n\
         Break something:\n  \
         curl {control}/fault -d '{{\"method\":\"batch\",\"kind\":\"html\",\"status\":502,\"count\":2}}'\n\n\
         Ctrl-C ends it.\n"
    );
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    drop(out);
    until.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn arguments_become_options() {
        let read = |arguments: &[&str]| {
            let arguments = std::iter::once(&"simulate").chain(arguments);
            Wrapper::try_parse_from(arguments).map(|wrapper| wrapper.args.options())
        };
        let options = read(&[]).unwrap();
        assert_eq!((options.port, options.contacts, options.leads), (8480, 20_000, 5_000));
        let options = read(&["--companies", "7", "--deals", "8", "--smart-invoices", "9"]).unwrap();
        assert_eq!((options.companies, options.deals, options.smart_invoices), (7, 8, 9));
        let options =
            read(&["--bucket", "0", "--zone", "Europe/Berlin", "--cost", "400ms"]).unwrap();
        assert!(options.bucket.is_none());
        assert_eq!(options.zone, Tz::Europe__Berlin);
        assert!((options.costs["*"].seconds - 0.4).abs() < 1e-9);
        let operating = read(&["--operating-booking", "batch", "--operating-silent"]).unwrap();
        let operating = operating.operating.unwrap();
        assert_eq!((operating.booking, operating.report), (Booking::Batch, false));
        assert!(read(&["--operating-booking", "nowhere"]).is_err());
        assert!(read(&["--zone", "Mars/Olympus"]).is_err());
    }
}
