//! What is somebody told who may not call?
//!
//! One sentence for every wrong key and one for none, in the caller's dialect, before a byte of the
//! body is read; the connection ends, because that body may follow. Who has shown too many wrong keys
//! ([`crate::live::guesses`]) is told to wait, and waits a second for that; a right key is never asked
//! how many wrong ones came from its address. A known client that has had all it may have for now is told
//! when it may ask again. Where nobody needs a key, a web page of another site is told what would help.

use super::origin;
use super::reply::{self, Extra};
use super::story::Story;
use crate::authenticate::AuthFault;
use crate::base::api::ErrorShape;
use crate::base::outcome::ErrorCode;
use crate::base::reach::origin_of;
use crate::live::guesses::SLOWED;
use crate::live::quotas::Spent;
use crate::live::{House, Live};
use crate::observe::refused::RefusedAt;
use pingora::protocols::http::ServerSession as Session;
use std::time::Duration;

/// What is told to an address that guesses. It says nothing of the key.
const GUESSING: &str =
    "too many wrong API keys came from this address within a minute; correct the key before the next try";

/// Answers a request that is nobody's.
pub(super) async fn refuse(
    house: &House,
    live: &Live,
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
    fault: AuthFault,
) -> pingora::Result<()> {
    session.set_keepalive(None);
    let mut extra = Extra { should_retry: Some(false), ..Extra::default() };
    let code = match fault {
        AuthFault::Missing => {
            house.metrics.refused(RefusedAt::NoKey);
            ErrorCode::MissingApiKey
        }
        AuthFault::Invalid => {
            if let Some(left) = guessing(house, live, session) {
                house.metrics.refused(RefusedAt::Guessing);
                tokio::time::sleep(SLOWED).await;
                story.paused(SLOWED);
                extra.retry_after = Some(left.as_secs().max(1));
                return reply::refuse(session, story, shape, 429, ErrorCode::RateLimited, GUESSING, &extra)
                    .await;
            }
            house.metrics.refused(RefusedAt::WrongKey);
            ErrorCode::InvalidApiKey
        }
    };
    reply::refuse(session, story, shape, 401, code, &fault.to_string(), &extra).await
}

/// Answers a web page of another site where nobody needs a key.
pub(super) async fn refuse_page(
    house: &House,
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
) -> pingora::Result<()> {
    house.metrics.refused(RefusedAt::WebPage);
    session.set_keepalive(None);
    let extra = Extra { should_retry: Some(false), ..Extra::default() };
    let code = ErrorCode::ValidationFailed;
    reply::refuse(session, story, shape, 403, code, origin::FOREIGN, &extra).await
}

/// Answers a client that has had all that its limits let it have for now.
pub(super) async fn refuse_spent(
    house: &House,
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
    spent: &Spent,
) -> pingora::Result<()> {
    house.metrics.refused(RefusedAt::Limits);
    session.set_keepalive(None);
    let extra = Extra { retry_after: Some(spent.wait), should_retry: Some(true), ..Extra::default() };
    reply::refuse(session, story, shape, 429, ErrorCode::RateLimited, &spent.to_string(), &extra).await
}

/// Counts a wrong key; returns how long its address is slowed down for yet, where it is.
fn guessing(house: &House, live: &Live, session: &Session) -> Option<Duration> {
    let origin = origin_of(session.client_addr()?.as_inet()?.ip());
    house.guesses.wrong(origin, live.plan.limits.wrong_keys_per_minute, house.clock.tick())
}
