//! The ends of contexts that nobody uses, and of those whose certificate has ended.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Registry;
use crate::context::pool::Keyed;
use crate::context::segment::{KeyPart, Walk};
use crate::context::{Context, ContextId};
use crate::lifetime::alarm::Timer;
use crate::lifetime::{Moment, Rules};

/// How soon it is looked again at a context that only another connection goes through.
const PASSED_LOOK: Duration = Duration::from_secs(60);

impl Registry {
    /// Ends contexts when they are to end, for as long as this is polled. Must be called in a tokio
    /// runtime.
    pub(crate) async fn end_idle(&self) -> Infallible {
        let timer = Timer::new();
        loop {
            self.pool.alarm.wait(&timer).await;
            self.pool.alarm.clear();
            self.close_due(Moment::now(), SystemTime::now()).await;
        }
    }

    /// Looks at everything: the clock has jumped.
    pub(crate) fn look_for_ends(&self) {
        self.pool.alarm.no_later_than(Moment::default());
    }

    /// Closes what is to end now, and sets the alarm for the rest.
    async fn close_due(&self, now: Moment, wall: SystemTime) {
        let keyed = self.pool.keyed();
        mark_passed(&keyed, now, wall);
        let mut due: Vec<ContextId> = Vec::new();
        for (_, context) in &keyed {
            if let Some(end) = context.certificate_end() {
                match end.duration_since(wall) {
                    Ok(left) if !left.is_zero() => self.pool.alarm.no_later_than(now.after(left)),
                    _ if context.expiry(|expiry| expiry.outdate()) => {
                        let (name, id) = (context.name(), context.id());
                        tracing::info!(
                            "{name} ({id}): not used any more: its certificate has ended"
                        );
                    }
                    _ => {}
                }
            }
            if context.expiry(|expiry| expiry.is_only_passed()) {
                self.pool.alarm.no_later_than(now.after(PASSED_LOOK));
            }
            let is_due = context.expiry(|expiry| expiry.close_if_due(now));
            if is_due {
                due.push(context.id());
            }
        }
        if due.is_empty() {
            return;
        }
        let why = |context: &Context| {
            if context.is_outdated(wall) {
                return "the certificate has ended".to_owned();
            }
            format!("not used for {}", context.persist())
        };
        self.close_those(|context| due.contains(&context.id()), why).await;
    }

    /// Holds the contexts of a walk, which ends with this one, by these rules.
    pub(super) fn set_terms(&self, walk: &Walk, context: &Arc<Context>, rules: &Rules) {
        let segments = walk.0.iter().map(|segment| (segment.kind(), segment.name.as_str()));
        // Each segment leads to a context, and each context hangs on the one before it.
        let mut next = Some(context);
        for terms in rules.terms(segments).iter().rev() {
            let Some(context) = next else { return };
            context.expiry(|expiry| expiry.set_terms(terms));
            if context.certificate_end().is_some() {
                self.look_for_ends();
            }
            next = context.base();
        }
    }
}

/// Notes of each context whether a connection of another one goes through its connection, which
/// does not use its context.
pub(super) fn mark_passed(keyed: &[Keyed], now: Moment, wall: SystemTime) {
    // Contexts past their certificate's end have connections that nothing new goes through.
    let mut passed: [HashSet<&[KeyPart]>; 2] = Default::default();
    for (key, context) in keyed {
        let paths = (1..key.len()).map(|len| &key[..len]);
        passed[usize::from(context.is_outdated(wall))].extend(paths);
    }
    for (key, context) in keyed {
        let passed = &passed[usize::from(context.is_outdated(wall))];
        let is_passed = passed.contains(key.as_slice());
        context.expiry(|expiry| expiry.pass(is_passed, now));
    }
}
