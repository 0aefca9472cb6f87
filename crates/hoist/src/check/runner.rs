//! One case in one version over one transport: sets up what is given, sends, and has it judged.
//!
//! Owns the order of events and what is remembered between them; what was right is for [`judge`](super::judge).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::case::{After, Case, Content, Ends, Expect, Framing, Number, Rule, Send, Status, Step, To};
use super::judge::{self, Asked};
use super::report::Verdict;
use super::rules;
use super::version::{Dialect, Version};
use super::wire::{self, Exchange, Head, Heard, Outgoing, Place, Standing, Transport};

/// A run, and what it remembers.
pub(crate) struct Run {
    case: Arc<Case>,
    version: Version,
    transport: Transport,
    place: Arc<Place>,
    rules: Vec<(String, Rule)>,
    patience: Duration,
    /// The path of the upload, once a response named it.
    upload: Option<String>,
    /// The name of the upload, where the client chooses it.
    token: String,
    /// The offset that was told last.
    told: Option<u64>,
    /// The largest offset of the upload that was told.
    largest: u64,
    standing: Option<(Standing, Outgoing)>,
    transcript: String,
}

/// How a creation's upload is named.
enum Named {
    /// By the client.
    ByToken,
    /// By the server, at this path.
    At(String),
}

/// What is not as it should be.
type Differences = Vec<String>;

/// A case, where it was run, and how it ended.
pub(crate) type Judged = (Arc<Case>, Version, Transport, Verdict);

impl Run {
    pub(crate) fn new(
        case: Arc<Case>,
        version: Version,
        transport: Transport,
        place: Arc<Place>,
        rules: Vec<(String, Rule)>,
    ) -> Self {
        let mut bits = [0_u8; 16];
        // Without random numbers every run has the same token, and the cases say so.
        let _ = getrandom::fill(&mut bits);
        let token = bits.iter().fold(String::from("check-"), |mut token, octet| {
            let _ = write!(token, "{octet:02x}");
            token
        });
        Self {
            case,
            version,
            transport,
            place,
            rules,
            patience: Duration::ZERO,
            upload: None,
            token,
            told: None,
            largest: 0,
            standing: None,
            transcript: String::new(),
        }
    }

    /// Runs it. Each exchange may take as long as `patience`.
    pub(crate) async fn judge(mut self, patience: Duration) -> Judged {
        self.patience = patience;
        let differences = self.steps().await;
        drop(self.standing.take());
        self.clean_up().await;
        let verdict = match differences {
            Ok(()) => Verdict::Passed,
            Err(differences) => {
                let mut why = String::new();
                for difference in differences {
                    let _ = writeln!(why, "- {difference}");
                }
                Verdict::Failed(why + &self.transcript)
            }
        };
        (self.case, self.version, self.transport, verdict)
    }

    async fn steps(&mut self) -> Result<(), Differences> {
        let case = Arc::clone(&self.case);
        self.set_up(&case).await?;
        self.step(&case.send, &case.expect).await?;
        self.look(case.after.as_ref()).await?;
        for Step { send, stalled, expect, after } in &case.then {
            if *stalled {
                self.end_of_standing(expect).await?;
            }
            if let Some(send) = send {
                self.step(send, expect).await?;
            }
            self.look(after.as_ref()).await?;
        }
        Ok(())
    }

    /// Creates what the case finds there.
    async fn set_up(&mut self, case: &Case) -> Result<(), Differences> {
        let given = &case.given;
        if !given.is_upload() {
            return Ok(());
        }
        let creation = Send {
            complete: Some(false),
            length: given.length,
            fields: given.fields.clone(),
            content: given.content.clone(),
            ..Send::of("POST")
        };
        self.step(&creation, &Expect::success()).await.map_err(|why| given_fails(&why))?;
        if given.complete {
            let append = Send {
                to: To::Upload,
                complete: Some(true),
                offset: Some(Number::Word("told".into())),
                ..Send::of("PATCH")
            };
            self.step(&append, &Expect::success()).await.map_err(|why| given_fails(&why))?;
        }
        Ok(())
    }

    async fn step(&mut self, send: &Send, expect: &Expect) -> Result<(), Differences> {
        let outgoing = self.outgoing(send).map_err(|why| vec![why])?;
        self.transcribe_request(&outgoing);
        if let Some(count) = send.race {
            return self.race(&outgoing, send, expect, count).await;
        }
        let exchange = self.exchange(&outgoing).await?;
        let heard = match exchange {
            Exchange::Ended(heard) => heard,
            Exchange::Standing(standing) => {
                let heard = standing.heard().clone();
                self.standing = Some((standing, outgoing.clone()));
                heard
            }
        };
        self.transcribe_response(&heard, send.ends == Ends::Stall);
        self.hear(&heard, &outgoing, expect, send.ends)
    }

    async fn exchange(&self, outgoing: &Outgoing) -> Result<Exchange, Differences> {
        match timeout(self.patience, wire::exchange(self.transport, &self.place, outgoing)).await {
            Ok(Ok(exchange)) => Ok(exchange),
            Ok(Err(error)) => Err(vec![format!("no exchange: {error}")]),
            Err(_) => Err(vec![format!("nothing came of it in {:?}", self.patience)]),
        }
    }

    /// Sends the same several times side by side. One gets what is expected, the others what is left for them.
    async fn race(
        &mut self,
        outgoing: &Outgoing,
        send: &Send,
        expect: &Expect,
        count: usize,
    ) -> Result<(), Differences> {
        let mut running = JoinSet::new();
        for _ in 0..count {
            let (outgoing, place) = (outgoing.clone(), Arc::clone(&self.place));
            let (transport, patience) = (self.transport, self.patience);
            running.spawn(async move {
                match timeout(patience, wire::exchange(transport, &place, &outgoing)).await {
                    Ok(Ok(Exchange::Ended(heard))) => heard,
                    _ => Heard::default(),
                }
            });
        }
        let mut all = Vec::new();
        while let Some(heard) = running.join_next().await {
            all.push(heard.map_err(|failure| vec![failure.to_string()])?);
        }
        for heard in &all {
            self.transcribe_response(heard, false);
        }
        let judged = |heard: &Heard, expect: &Expect| {
            let asked = self.asked(outgoing);
            judge::response(heard, expect, &asked, send.ends)
        };
        let winner = all.iter().position(|heard| judged(heard, expect).is_empty());
        let Some(winner) = winner else { return Err(judged(&all[0], expect)) };
        let others = expect.others.as_deref().cloned().unwrap_or_default();
        let losers = all.iter().enumerate().filter(|(at, _)| *at != winner);
        let differences: Differences = losers.flat_map(|(_, heard)| judged(heard, &others)).collect();
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    async fn end_of_standing(&mut self, expect: &Expect) -> Result<(), Differences> {
        let Some((standing, outgoing)) = self.standing.take() else {
            return Err(vec!["no request is left standing".into()]);
        };
        let known = standing.heard().interims.len();
        let Ok(mut heard) = timeout(self.patience, standing.end()).await else {
            return Err(vec![format!("the standing request does not end in {:?}", self.patience)]);
        };
        heard.interims.drain(..known);
        self.transcript.push_str("> (the request that was left standing)\n");
        self.transcribe_response(&heard, false);
        self.hear(&heard, &outgoing, expect, Ends::Whole)
    }

    /// Judges what came back and remembers what it said.
    fn hear(
        &mut self,
        heard: &Heard,
        outgoing: &Outgoing,
        expect: &Expect,
        ends: Ends,
    ) -> Result<(), Differences> {
        let asked = self.asked(outgoing);
        let mut differences = judge::response(heard, expect, &asked, ends);
        let named = self.named(heard, &asked);
        let largest = if named.is_some() { 0 } else { self.largest };
        for (name, rule) in &self.rules {
            let broken = rules::broken(*rule, heard, expect, &asked, largest);
            differences.extend(broken.into_iter().map(|broken| format!("{name}: {broken}")));
        }
        self.largest = largest;
        if let Some(Named::At(path)) = named {
            self.upload = Some(path);
        }
        let heads = heard.interims.iter().chain(heard.last.as_ref().map(|(head, _)| head));
        for offset in heads.filter_map(|head| head.field("upload-offset")?.parse().ok()) {
            self.told = Some(offset);
            self.largest = self.largest.max(offset);
        }
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    /// The upload that a creation began.
    fn named(&self, heard: &Heard, asked: &Asked<'_>) -> Option<Named> {
        let succeeds = heard.last.as_ref().filter(|(head, _)| (200..300).contains(&head.status));
        if !asked.creates {
            return None;
        }
        if self.version.dialect() == Dialect::Token {
            return succeeds.map(|_| Named::ByToken);
        }
        let announced = heard.interims.iter().find_map(|head| head.field("location"));
        let location = announced.or_else(|| succeeds.and_then(|(head, _)| head.field("location")))?;
        wire::path_of(location).map(Named::At)
    }

    fn asked<'a>(&'a self, outgoing: &'a Outgoing) -> Asked<'a> {
        Asked {
            version: self.version,
            outgoing,
            told: self.told,
            creates: !self.is_upload(outgoing),
            target: &self.place.path,
            upload: self.upload.as_deref(),
        }
    }

    fn is_upload(&self, outgoing: &Outgoing) -> bool {
        self.upload.as_ref() == Some(&outgoing.target)
            || (self.version.dialect() == Dialect::Token && outgoing.method != "POST")
    }

    /// Asks for the upload's state, and compares.
    async fn look(&mut self, after: Option<&After>) -> Result<(), Differences> {
        let Some(after) = after else { return Ok(()) };
        let head = Send { to: To::Upload, ..Send::of("HEAD") };
        let expect = judge::after(after);
        self.step(&head, &expect).await?;
        match (after.offset_max, self.told) {
            (Some(most), Some(told)) if !after.gone && told > most => {
                Err(vec![format!("the offset is {told}, more than {most}")])
            }
            _ => Ok(()),
        }
    }

    /// Leaves nothing behind, whether or not the server is still right in its mind.
    async fn clean_up(&mut self) {
        if self.upload.is_none() && self.version.dialect() == Dialect::Ietf {
            return;
        }
        let cancel = Send { to: To::Upload, ..Send::of("DELETE") };
        if let Ok(outgoing) = self.outgoing(&cancel) {
            let _ = self.exchange(&outgoing).await;
        }
    }

    /// A request as the version spells it.
    fn outgoing(&self, send: &Send) -> Result<Outgoing, String> {
        let is_token = self.version.dialect() == Dialect::Token;
        let target = match send.to {
            To::Target => format!("{}{}", self.place.path, send.below),
            To::Server => "*".to_owned(),
            To::Upload if is_token => self.place.path.clone(),
            To::Upload => self.upload.clone().ok_or("no response named an upload")?,
        };
        let mut fields = Vec::new();
        for (name, lines) in &send.fields {
            fields.extend(lines.each().iter().map(|line| (name.clone(), line.clone())));
        }
        let mut add = |name: &str, value: String| {
            let is_there = fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
            if !is_there && !send.without.iter().any(|without| without.eq_ignore_ascii_case(name)) {
                fields.push((name.to_owned(), value));
            }
        };
        if is_token {
            add("Upload-Token", self.token.clone());
        }
        if let Some((name, number)) = self.version.number() {
            add(name, number.to_string());
        }
        // A form without a number shows in nothing else.
        let carries = !matches!(send.method.as_str(), "HEAD" | "GET" | "DELETE" | "OPTIONS");
        if self.version == Version::Unnumbered && carries && send.complete != Some(false) {
            add("Upload-Incomplete", "?0".into());
        }
        if let Some((name, value)) = send.complete.and_then(|complete| self.version.says_in_request(complete))
        {
            add(name, value.into());
        }
        match &send.offset {
            Some(Number::Is(offset)) => add("Upload-Offset", offset.to_string()),
            Some(Number::Word(word)) if word != "told" => return Err(format!("{word} is no offset")),
            Some(Number::Word(_)) => {
                let told = self.told.ok_or("no response told an offset")?;
                add("Upload-Offset", told.to_string());
            }
            None => {}
        }
        if let Some(length) = send.length.filter(|_| self.version.has_length()) {
            add("Upload-Length", length.to_string());
        }
        if send.to == To::Upload && send.method == "PATCH" && self.version.has_append_type() {
            add("Content-Type", "application/partial-upload".into());
        }
        let content = send.content.as_ref().map(Content::bytes);
        Ok(Outgoing {
            method: send.method.clone(),
            target,
            fields,
            content: content.or_else(|| carries.then(Vec::new)),
            declares: send.declares,
            framing: send.framing,
            trailers: send.trailers.clone().into_iter().collect(),
            paused: send.paused.iter().copied().map(Duration::from_secs_f64).collect(),
            ends: send.ends,
            // What is left standing is known to have begun only when the server asks for its content.
            waits: send.waits || send.ends == Ends::Stall,
            ancient: send.ancient,
        })
    }

    fn transcribe_request(&mut self, outgoing: &Outgoing) {
        let Outgoing { method, target, fields, content, framing, declares, ends, .. } = outgoing;
        let _ = writeln!(self.transcript, "> {method} {target}");
        for (name, value) in fields {
            let _ = writeln!(self.transcript, ">   {name}: {value}");
        }
        if let Some(content) = content {
            let framing = if *framing == Framing::Chunked { "chunked" } else { "sized" };
            let declared = declares.map(|declares| format!(", declared as {declares}")).unwrap_or_default();
            let ends = match ends {
                Ends::Whole => "",
                Ends::Cut => ", then cut",
                Ends::Stall => ", then left standing",
            };
            let _ = writeln!(self.transcript, ">   ({} bytes, {framing}{declared}{ends})", content.len());
        }
    }

    fn transcribe_response(&mut self, heard: &Heard, stands: bool) {
        let mut transcribe = |head: &Head| {
            let _ = writeln!(self.transcript, "< {}", head.status);
            let shown = |name: &str| {
                let name = name.to_ascii_lowercase();
                !matches!(name.as_str(), "date" | "connection" | "server")
            };
            for (name, value) in head.fields.iter().filter(|(name, _)| shown(name)) {
                let _ = writeln!(self.transcript, "<   {name}: {value}");
            }
        };
        heard.interims.iter().for_each(&mut transcribe);
        match &heard.last {
            Some((last, content)) => {
                transcribe(last);
                if !content.is_empty() {
                    let _ = writeln!(self.transcript, "<   {}", String::from_utf8_lossy(content));
                }
            }
            None if stands => {}
            None => self.transcript.push_str("< (ended without a response)\n"),
        }
    }
}

fn given_fails(why: &[String]) -> Differences {
    why.iter().map(|why| format!("what is given cannot be had: {why}")).collect()
}

impl Send {
    fn of(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            to: To::Target,
            below: String::new(),
            complete: None,
            offset: None,
            length: None,
            fields: BTreeMap::new(),
            without: Vec::new(),
            content: None,
            declares: None,
            framing: Framing::Sized,
            trailers: BTreeMap::new(),
            paused: Vec::new(),
            ends: Ends::Whole,
            waits: false,
            ancient: false,
            race: None,
        }
    }
}

impl Expect {
    fn success() -> Self {
        Self { status: Some(Status::Class("2xx".into())), ..Self::default() }
    }
}
