//! The ends of contexts that nobody uses, and of those whose certificate has ended.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Keyed, Registry};
use crate::context::leg::{Key, Part, Walk};
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
            self.alarm.wait(&timer).await;
            self.alarm.clear();
            self.close_due(Moment::now(), SystemTime::now()).await;
        }
    }

    /// Looks at everything: the clock has jumped.
    pub(crate) fn look_for_ends(&self) {
        self.alarm.no_later_than(Moment::default());
    }

    /// Closes what is to end now, and sets the alarm for the rest.
    async fn close_due(&self, now: Moment, wall: SystemTime) {
        let keyed = self.keyed();
        mark_passed(&keyed, now, wall);
        let mut due: Vec<ContextId> = Vec::new();
        for (_, context) in &keyed {
            if let Some(end) = context.certificate_end() {
                match end.duration_since(wall) {
                    Ok(left) if !left.is_zero() => self.alarm.no_later_than(now.after(left)),
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
                self.alarm.no_later_than(now.after(PASSED_LOOK));
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
        let legs = walk.legs.iter().map(|(leg, text)| (leg.kind(), text.as_str()));
        // Each leg leads to a context, and each of them hangs on the one before it.
        let mut next = Some(context);
        for terms in rules.terms(legs).iter().rev() {
            let Some(context) = next else { return };
            context.expiry(|expiry| expiry.set_terms(terms));
            if context.certificate_end().is_some() {
                self.look_for_ends();
            }
            next = context.base();
        }
    }

    /// Puts a context aside whose certificate has ended while sessions run in it: another one takes
    /// its place.
    pub(super) fn make_room(&self, key: &Key) {
        let Some(context) = self.contexts.peek(key) else { return };
        let mut outdated = self.outdated();
        let is_there = outdated.iter().any(|(_, other)| Arc::ptr_eq(other, &context));
        if !is_there && !context.is_lost() && context.is_outdated(SystemTime::now()) {
            outdated.push((key.clone(), context));
        }
    }

    /// Whether a context of the registry hangs on another one.
    pub(super) fn hangs_on(&self, one: &(Key, Arc<Context>), root: &(Key, Arc<Context>)) -> bool {
        let outdated = self.outdated();
        let is_outdated = |context| outdated.iter().any(|(_, other)| Arc::ptr_eq(other, context));
        // Where one is in the place of another, the keys don't say which of them it is.
        if is_outdated(&one.1) || is_outdated(&root.1) {
            return one.1.is_behind(&root.1);
        }
        super::is_behind(&one.0, &root.0)
    }

    pub(super) fn outdated(&self) -> MutexGuard<'_, Keyed> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes of each context whether a connection of another one goes through its connection, which
/// does not use its context.
pub(super) fn mark_passed(keyed: &[(Key, Arc<Context>)], now: Moment, wall: SystemTime) {
    // Contexts past their certificate's end have connections that nothing new goes through.
    let mut passed: [HashSet<&[Part]>; 2] = Default::default();
    for (key, context) in keyed {
        let ways = (1..key.len()).map(|len| &key[..len]);
        passed[usize::from(context.is_outdated(wall))].extend(ways);
    }
    for (key, context) in keyed {
        let passed = &passed[usize::from(context.is_outdated(wall))];
        let is_passed = passed.contains(key.as_slice());
        context.expiry(|expiry| expiry.pass(is_passed, now));
    }
}
