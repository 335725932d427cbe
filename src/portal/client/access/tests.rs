#![expect(clippy::unwrap_used, reason = "a helper that fails should fail the test it helps")]

use std::{io, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    portal::{
        Application, ApplicationOptions, Lane, Limits, Portal, PortalOptions, TokenFuture,
        TokenStoreError,
    },
    retry::{Disposition, RetryPolicy},
    simulator::{self, Action, ApplicationEvent, Simulator},
};

/// Keeps tokens in memory, and fails as often as it is told to.
#[derive(Default)]
struct Memory {
    kept: std::sync::Mutex<Option<Tokens>>,
    failures: std::sync::Mutex<u32>,
}

impl TokenStore for Memory {
    fn load(&self) -> TokenFuture<'_, Option<Tokens>> {
        Box::pin(async { Ok(self.kept.lock().unwrap().clone()) })
    }

    fn turn(&self) -> TokenFuture<'_, Turn> {
        Box::pin(async { Ok(Turn::Ours) })
    }

    fn keep<'a>(&'a self, tokens: &'a Tokens) -> TokenFuture<'a, ()> {
        Box::pin(async {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(TokenStoreError::new(io::Error::other("away"), false));
            }
            *self.kept.lock().unwrap() = Some(tokens.clone());
            Ok(())
        })
    }

    fn done(&self) -> TokenFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn simulator() -> Simulator {
    Simulator::start(simulator::Options { contacts: 3, leads: 0, ..Default::default() }).unwrap()
}

fn client(portal: &Simulator, token_server: &Simulator, store: &Arc<Memory>) -> Portal {
    let own = simulator::ApplicationOptions::default();
    let application = Application::new(ApplicationOptions {
        host: portal.url().replace("http://", ""),
        client_id: own.client_id,
        client_secret: own.client_secret.into(),
        refresh_token: own.refresh_token.into(),
        token_server: Some(token_server.token_server()),
    });
    let client = Portal::new(PortalOptions {
        credentials: application.unwrap().into(),
        timeout: Duration::from_secs(5),
        max_body: 1 << 20,
        ca_file: None,
        limits: Limits { requests_per_second: 1000.0, burst: 1000, operating: None },
        retry: RetryPolicy::new(3, Duration::from_millis(1), Duration::from_millis(2)).unwrap(),
    });
    let client = client.unwrap();
    client.keep_tokens_in(Arc::clone(store) as Arc<dyn TokenStore>);
    client
}

async fn call(client: &Portal) -> Result<(), PortalError> {
    client.call(Lane::People, "profile", &json!({})).await.map(drop)
}

#[tokio::test]
async fn many_callers_of_an_expired_token_buy_one() {
    let portal = simulator();
    let store = Arc::default();
    let client = client(&portal, &portal, &store);
    call(&client).await.unwrap();
    portal.apply(Action::Application { event: ApplicationEvent::Expire }).unwrap();
    let calls: tokio::task::JoinSet<_> = (0..30)
        .map(|_| {
            let client = client.clone();
            async move { call(&client).await }
        })
        .collect();
    for called in calls.join_all().await {
        called.unwrap();
    }
    assert_eq!((portal.stats().token_requests, portal.stats().trap(24)), (2, 0));
}

#[tokio::test]
async fn a_pair_that_could_not_be_kept_is_kept_later_and_not_bought_again() {
    let portal = simulator();
    let store = Arc::new(Memory::default());
    *store.failures.lock().unwrap() = 4;
    let client = client(&portal, &portal, &store);
    // Three attempts, and none of them has used what is kept nowhere.
    let error = call(&client).await.unwrap_err();
    assert!(matches!(error, PortalError::TokensNotKept(_)), "{error:?}");
    assert_eq!((portal.stats().requests, portal.stats().token_requests), (0, 1));
    call(&client).await.unwrap();
    assert_eq!((portal.stats().requests, portal.stats().token_requests), (1, 1));
}

#[tokio::test]
async fn a_pair_that_could_not_be_kept_is_tried_once_more_at_the_end() {
    let portal = simulator();
    let store = Arc::new(Memory::default());
    *store.failures.lock().unwrap() = 3;
    let client = client(&portal, &portal, &store);
    call(&client).await.unwrap_err();
    assert!(client.is_renewing_tokens() && store.kept.lock().unwrap().is_none());
    client.settle_tokens().await;
    assert!(!client.is_renewing_tokens() && store.kept.lock().unwrap().is_some());
    call(&client).await.unwrap();
    assert_eq!(portal.stats().token_requests, 1);
}

#[tokio::test]
async fn a_pair_that_could_not_be_kept_does_not_replace_a_newer_one() {
    let portal = simulator();
    let (ours, theirs): (Arc<Memory>, Arc<Memory>) = (Arc::default(), Arc::default());
    *ours.failures.lock().unwrap() = 3;
    let client = client(&portal, &portal, &ours);
    call(&client).await.unwrap_err();
    // Another process buys with the same token, which works once more, and stores the pair.
    portal.apply(Action::Application { event: ApplicationEvent::Grace(true) }).unwrap();
    let newer = {
        let other = self::client(&portal, &portal, &theirs);
        call(&other).await.unwrap();
        theirs.kept.lock().unwrap().clone().unwrap()
    };
    *ours.kept.lock().unwrap() = Some(newer.clone());
    call(&client).await.unwrap();
    let kept = ours.kept.lock().unwrap().clone().unwrap();
    assert_eq!(kept.refresh.expose_secret(), newer.refresh.expose_secret());
    assert_eq!((portal.stats().requests, portal.stats().token_requests), (2, 2));
}

#[tokio::test]
async fn a_renewal_outlives_the_call_that_wanted_it() {
    let portal = simulator();
    let store: Arc<Memory> = Arc::default();
    let client = client(&portal, &portal, &store);
    tokio::select! {
        biased;
        _ = call(&client) => panic!("it cannot be over yet"),
        () = tokio::task::yield_now() => {}
    }
    client.authorize().await.unwrap();
    assert_eq!(portal.stats().token_requests, 1);
    assert!(store.kept.lock().unwrap().is_some());
}

#[tokio::test]
async fn a_portal_that_knows_no_token_is_not_offered_one_after_another() {
    let (portal, elsewhere) = (simulator(), simulator());
    // The portal that the authorization server speaks of, but none that knows its tokens.
    let host = portal.url().replace("http://", "");
    elsewhere.apply(Action::Rename { host }).unwrap();
    let store = Arc::default();
    let client = client(&portal, &elsewhere, &store);
    for requests in 1..=3 {
        let error = call(&client).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::StopPortal, "{error}");
        assert!(error.advice().contains("`portal.oauth.host`"), "{}", error.advice());
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains("s1m"), "{shown}");
        assert_eq!(portal.stats().requests, requests);
    }
    assert_eq!(elsewhere.stats().token_requests, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_lasts_is_asked_about_less_and_less_often() {
    let refusal = TokenRefusal::new("oauth", "PAYMENT_REQUIRED", 401, "");
    let mut refused = Refused::after(None, refusal.clone());
    let mut minutes = Vec::new();
    for _ in 0..6 {
        let begun = Instant::now();
        while !refused.is_over() {
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        minutes.push(begun.elapsed().as_secs() / 60);
        refused = Refused::after(Some(&refused), refusal.clone());
    }
    assert_eq!(minutes, [4, 8, 16, 32, 60, 60]);
    assert_eq!(Refused::after(None, refusal).holds, REFUSED_FOR, "a good answer ends the row");
}
