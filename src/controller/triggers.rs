//! Which change wakes which object: two queues, filled by watches, directories and alarms.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::channel::mpsc;
use jiff::Timestamp;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use crate::clock::Clock;

/// Wakes objects of one kind, now or later. Cheap to clone.
pub(super) struct Waker<K: Resource<DynamicType = ()>> {
    queue: mpsc::UnboundedSender<ObjectRef<K>>,
    alarms: Arc<Mutex<Alarms<K>>>,
    changed: Arc<Notify>,
}

impl<K: Resource<DynamicType = ()>> Clone for Waker<K> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            alarms: Arc::clone(&self.alarms),
            changed: Arc::clone(&self.changed),
        }
    }
}

/// One alarm an object at most.
struct Alarms<K: Resource<DynamicType = ()>> {
    by_object: HashMap<ObjectRef<K>, (Timestamp, u64)>,
    by_time: BTreeMap<(Timestamp, u64), ObjectRef<K>>,
    next: u64,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Waker<K> {
    /// A waker and the queue that it fills.
    #[must_use]
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<ObjectRef<K>>) {
        let (queue, receiver) = mpsc::unbounded();
        let alarms = Alarms { by_object: HashMap::new(), by_time: BTreeMap::new(), next: 0 };
        let waker =
            Self { queue, alarms: Arc::new(Mutex::new(alarms)), changed: Arc::new(Notify::new()) };
        (waker, receiver)
    }

    /// Looks at the object now.
    pub(super) fn wake(&self, object: ObjectRef<K>) {
        // Fails only after the controller has ended: nobody is left to look.
        let _ = self.queue.unbounded_send(object);
    }

    /// Ends the queue: what is being looked at is finished, nothing else is begun.
    pub(super) fn close(&self) {
        self.queue.close_channel();
    }

    /// Looks at the object at that time, instead of at a time set before. `None` takes an alarm
    /// off.
    pub(super) fn wake_at(&self, object: ObjectRef<K>, at: Option<Timestamp>) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = alarms.by_object.remove(&object) {
            alarms.by_time.remove(&old);
        }
        if let Some(at) = at {
            let key = (at, alarms.next);
            alarms.next += 1;
            alarms.by_object.insert(object.clone(), key);
            alarms.by_time.insert(key, object);
        }
        drop(alarms);
        self.changed.notify_one();
    }

    /// Looks at the object at that time, or earlier if an alarm is set before it.
    pub(super) fn wake_by(&self, object: ObjectRef<K>, at: Timestamp) {
        let set = {
            let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
            alarms.by_object.get(&object).map(|(at, _)| *at)
        };
        if set.is_none_or(|set| set > at) {
            self.wake_at(object, Some(at));
        }
    }

    /// Rings the alarms. Never ends.
    pub(super) async fn ring(&self, clock: &Clock) {
        loop {
            let (due, next) = self.due(clock.now());
            for object in due {
                self.wake(object);
            }
            match next {
                Some(at) => tokio::select! {
                    () = clock.sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn due(&self, now: Timestamp) -> (Vec<ObjectRef<K>>, Option<Timestamp>) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while let Some(((at, _), _)) = alarms.by_time.first_key_value() {
            if *at > now {
                return (due, Some(*at));
            }
            if let Some((_, object)) = alarms.by_time.pop_first() {
                alarms.by_object.remove(&object);
                due.push(object);
            }
        }
        (due, None)
    }
}

/// The queue as kube's applier takes it.
pub(super) fn requests<K: Resource<DynamicType = ()> + Send + 'static>(
    queue: mpsc::UnboundedReceiver<ObjectRef<K>>,
) -> impl futures::Stream<Item = Result<ObjectRef<K>, std::convert::Infallible>> + Send {
    queue.map(Ok)
}
