//! The two halves of an attempt apart, for one that runs beside another.
//!
//! [`open`] asks and holds with nothing of the client's; whoever lets two of them run watches the
//! client, the deadline and the timers, and may drop either at any point: the connection closes with
//! it, on HTTP/2 the stream is reset. [`deliver`] goes on with the one that is taken.

use super::{Aim, Answer, Delivery, End, Errand, Fault, Opening, Stage, Watch, part_with};
use crate::health::Permit;
use crate::proxy::incoming::{Incoming, Paused};
use crate::proxy::patience::Patience;
use crate::wire::StreamReader;
use pingora::protocols::http::client::HttpSession as Upstream;

/// An answer that is fit to go downstream, and where the rest of it comes from.
pub(in crate::proxy) struct Ready {
    upstream: Box<Upstream>,
    paused: Paused,
    answer: Box<Answer>,
    reader: Option<StreamReader>,
}

impl Ready {
    /// Returns the provider's status.
    pub(in crate::proxy) fn status(&self) -> u16 {
        self.answer.status
    }
}

/// Makes the first half of an attempt.
pub(in crate::proxy) async fn open(aim: &Aim<'_>, errand: Box<Errand>) -> Result<Ready, Fault> {
    let mut opening = Opening { aim, watch: Watch::Elsewhere(Patience::default()) };
    match opening.make(errand).await {
        Ok(ready) => Ok(ready),
        Err(end) => Err(match *end {
            End::Failed(fault) => fault,
            // Nobody here knows of a client.
            End::Delivered | End::Gone => Fault::plain(crate::base::outcome::Outcome::Reset),
        }),
    }
}

/// Makes the second half.
pub(in crate::proxy) async fn deliver(
    aim: &Aim<'_>,
    stage: &mut Stage<'_>,
    permit: &mut Permit,
    ready: Ready,
) -> End {
    let Ready { mut upstream, paused, answer, mut reader } = ready;
    let mut end = {
        let mut incoming = Incoming::resume(&mut upstream, paused);
        let mut delivery = Delivery { aim, stage, permit, splice: &mut None };
        delivery.run(&mut incoming, answer, reader.as_mut()).await
    };
    part_with(aim, upstream, &mut end).await;
    end
}

impl Opening<'_, '_> {
    async fn make(&mut self, errand: Box<Errand>) -> Result<Ready, Box<End>> {
        let (mut upstream, drafted) = self.begin(errand).await?;
        let mut reader = None;
        let held = match drafted {
            Ok(mut answer) => {
                let mut incoming = Incoming::new(&mut upstream, answer.packing, answer.is_event_stream);
                let held = self.hold(&mut incoming, &mut answer, &mut reader).await.map_err(Box::new);
                held.map(|()| (incoming.pause(), answer))
            }
            Err(end) => Err(end),
        };
        match held {
            Ok((paused, answer)) => Ok(Ready { upstream, paused, answer, reader }),
            Err(mut end) => {
                part_with(self.aim, upstream, &mut end).await;
                Err(end)
            }
        }
    }
}
