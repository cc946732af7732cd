//! Everything behind the socket, without the socket: a call arrives, is executed, and ends. The
//! time is an argument of each step.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::faults::{FaultKind, Faults};
use crate::keys::{Key, Keys, Signature, action_name};
use crate::model::{Directory, Operation, Refusal};
use crate::sts::TokenService;
use crate::traffic::{CallRecord, Counts, DirectoryLane, Log, Meter, Throttle};
use crate::wire::{
    self, Action, DIRECTORY_VERSION, Parameters, Request, masked_parameters, operation,
};

/// All the state of a simulator.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) directory: Directory,
    pub(crate) keys: Keys,
    pub(crate) tokens: TokenService,
    pub(crate) faults: Faults,
    pub(crate) lane: DirectoryLane,
    pub(crate) throttle: Throttle,
    pub(crate) meter: Meter,
    pub(crate) counts: Counts,
    pub(crate) log: Log,
    pub(crate) in_flight: u64,
    serial: u64,
}

/// A call between its arrival and its end.
#[derive(Debug)]
pub(crate) struct Call {
    number: u64,
    arrived_at: Timestamp,
    skew: SignedDuration,
    action: String,
    version: &'static str,
    key_id: String,
    signature: Signature,
    host: String,
    parameters: Parameters,
    in_url: Vec<String>,
    admitted: Result<(Task, Option<Key>), Refusal>,
    writes: bool,
    executed: bool,
    /// What is to go wrong.
    pub(crate) fault: Option<FaultKind>,
}

impl Call {
    fn is_of_directory(&self) -> bool {
        self.version == DIRECTORY_VERSION
    }
}

#[derive(Debug)]
enum Task {
    Directory(Operation),
    Token(Action),
}

/// A whole HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// `OK`, a code or `raw`.
    pub(crate) outcome: String,
    pub(crate) date: Timestamp,
}

/// What the client gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The answer.
    Whole(Answer),
    /// Its headers and some bytes of its body, then the end.
    Cut(Answer, usize),
    /// The connection is closed.
    Closed,
    /// The connection is reset.
    Reset,
}

impl World {
    pub(crate) fn new(directory: Directory, keys: Keys, tokens: TokenService) -> Self {
        Self {
            directory,
            keys,
            tokens,
            faults: Faults::default(),
            lane: DirectoryLane::default(),
            throttle: Throttle::default(),
            meter: Meter::default(),
            counts: Counts::default(),
            log: Log::default(),
            in_flight: 0,
            serial: 0,
        }
    }

    /// A request has been read to its end: it is checked, and takes its place in the lane.
    pub(crate) fn arrive(&mut self, request: &Request, now: Timestamp) -> Call {
        self.serial += 1;
        let action = action_name(request).unwrap_or_default();
        let fault = self.faults.take(&action);
        let skew = match fault {
            Some(FaultKind::ClockSkew { seconds }) => SignedDuration::from_secs(seconds),
            _ => SignedDuration::ZERO,
        };
        let known = Action::find(&action);
        let mut call = Call {
            number: self.serial,
            arrived_at: now,
            skew,
            version: known.map_or(DIRECTORY_VERSION, |action| action.version),
            action,
            key_id: String::new(),
            signature: Signature::of(request),
            host: request.header("host").unwrap_or_default(),
            parameters: Parameters::default(),
            in_url: request.query().into_iter().map(|(name, _)| name).collect(),
            admitted: Err(Refusal::new(500, "InternalError", "")),
            writes: known.is_some_and(|action| action.writes),
            executed: false,
            fault,
        };
        if call.is_of_directory() {
            self.counts.overlaps += u64::from(self.in_flight > 0);
            self.in_flight += 1;
            self.counts.in_flight_max = self.counts.in_flight_max.max(self.in_flight);
        }
        call.admitted = self.admit(request, &mut call, now);
        call
    }

    fn admit(
        &mut self,
        request: &Request,
        call: &mut Call,
        now: Timestamp,
    ) -> Result<(Task, Option<Key>), Refusal> {
        let switches = self.directory.switches().clone();
        call.parameters = Parameters::of(request, &switches)?;
        let (action, key) = self.keys.admit(request, &switches, now + call.skew)?;
        call.key_id = key.as_ref().map(|key| key.id.clone()).unwrap_or_default();
        self.meter.admit(action, &self.throttle, now)?;
        let Some(operation) = operation(action, &call.parameters)? else {
            return Ok((Task::Token(action), key));
        };
        let contact_id = call.parameters.get("ContactId");
        self.lane.enter(call.number, action, contact_id, &switches, now)?;
        Ok((Task::Directory(operation), key))
    }

    /// The one point at which the operation is done, as often as the call's fault says.
    pub(crate) fn execute(&mut self, call: &mut Call, now: Timestamp) -> Answer {
        let runs = call.fault.as_ref().map_or(1, FaultKind::runs);
        let mut result = Ok(json!({}));
        for _ in 0..runs {
            result = self.run(call, now);
        }
        match &call.fault {
            Some(FaultKind::Duplicate { noticed: true }) if call.admitted.is_ok() => {
                result = Err(Refusal::new(400, "SignatureNonceUsed", ""));
            }
            Some(FaultKind::Error { status, code, headers, .. }) => {
                let headers = headers.clone();
                result = Err(Refusal { headers, ..Refusal::new(*status, &**code, "") });
            }
            Some(FaultKind::Raw { status, headers, body, repeat, .. }) => {
                return Answer {
                    status: *status,
                    headers: headers.clone(),
                    body: body.repeat(*repeat as usize).into_bytes(),
                    outcome: "raw".to_owned(),
                    date: now + call.skew,
                };
            }
            _ => {}
        }
        Self::answer(call, result, now)
    }

    fn run(&mut self, call: &mut Call, now: Timestamp) -> Result<Value, Refusal> {
        let request_id = request_id(call);
        let (task, key) = call.admitted.as_ref().map_err(Clone::clone)?;
        let body = match (task, key) {
            (Task::Directory(operation), _) => {
                let reply = self.directory.execute(operation, now)?;
                self.counts.writes += u64::from(call.writes);
                wire::body(&reply, &self.directory, &request_id)
            }
            (Task::Token(action), key) => {
                let mut body = self.token(*action, key.as_ref(), &call.parameters, now)?;
                body["RequestId"] = json!(request_id);
                body
            }
        };
        call.executed = true;
        Ok(body)
    }

    fn token(
        &mut self,
        action: Action,
        key: Option<&Key>,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        match (action.name, key) {
            ("AssumeRole", Some(key)) => {
                self.tokens.assume_role(parameters, key, &mut self.keys, now)
            }
            ("GetCallerIdentity", Some(key)) => Ok(self.tokens.caller_identity(key)),
            _ => self.tokens.assume_role_with_oidc(parameters, &mut self.keys, now),
        }
    }

    fn answer(call: &Call, result: Result<Value, Refusal>, now: Timestamp) -> Answer {
        let json = "application/json;charset=utf-8".to_owned();
        let mut headers = vec![("Content-Type".to_owned(), json)];
        let (status, outcome, body) = match result {
            Ok(body) => (200, "OK".to_owned(), body),
            Err(refusal) => {
                let product = match call.version {
                    DIRECTORY_VERSION => "ResourceDirectoryMaster",
                    _ => "Sts",
                };
                let request_id = request_id(call);
                let body = wire::error_body(&refusal, &call.host, product, &request_id);
                headers.extend(refusal.headers);
                (refusal.status, refusal.code, body)
            }
        };
        let date = now + call.skew;
        Answer { status, headers, body: body.to_string().into_bytes(), outcome, date }
    }

    /// The call is over: what the client gets to see, and the books.
    pub(crate) fn end(&mut self, call: Call, answer: Answer, now: Timestamp) -> Ending {
        let ending = match call.fault {
            Some(FaultKind::Drop { .. }) => Ending::Closed,
            Some(FaultKind::Reset { .. }) => Ending::Reset,
            Some(FaultKind::CutBody { bytes }) => Ending::Cut(answer, bytes),
            _ => Ending::Whole(answer),
        };
        let (status, outcome) = match &ending {
            Ending::Whole(answer) => (Some(answer.status), answer.outcome.clone()),
            Ending::Cut(answer, _) => (Some(answer.status), "cut".to_owned()),
            Ending::Closed => (None, "dropped".to_owned()),
            Ending::Reset => (None, "reset".to_owned()),
        };
        if call.is_of_directory() {
            // A reset in the meantime has forgotten the call.
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.lane.leave(call.number);
        self.counts.calls += 1;
        *self.counts.by_action.entry(call.action.clone()).or_default() += 1;
        *self.counts.by_outcome.entry(outcome.clone()).or_default() += 1;
        let millis = now.duration_since(call.arrived_at).as_millis();
        self.log.push(CallRecord {
            number: call.number,
            at: call.arrived_at,
            parameters: masked_parameters(&call.parameters),
            in_url: call.in_url,
            action: call.action,
            key_id: call.key_id,
            signature: call.signature,
            status,
            outcome,
            executed: call.executed,
            millis: u64::try_from(millis).unwrap_or(0),
        });
        ending
    }

    /// Starts counting anew; calls in flight stay in flight.
    pub(crate) fn reset_counts(&mut self) {
        self.counts = Counts { in_flight_max: self.in_flight, ..Counts::default() };
    }
}

fn request_id(call: &Call) -> String {
    format!("51A00000-0000-4000-8000-{:012X}", call.number)
}
