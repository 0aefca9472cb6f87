//! One case in one version over one transport: sets up what is given, sends, and has it judged.
//!
//! Owns the order of events and what is remembered between them; what was right is for [`judge`](super::judge).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::case::{After, Case, Ends, Expect, GivenUpload, Lines, Number, Rule, Send, Status, Step, To};
use super::judge::{self, Asked};
use super::report::Verdict;
use super::rules;
use super::spelling::Speaker;
use super::transcript::Transcript;
use super::uploads::Uploads;
use super::version::{Dialect, Version};
use super::wire::{self, Exchange, Heard, Outgoing, Site, Standing, Transport};

/// How long to wait before a request is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A run, and what it remembers.
pub(crate) struct Run {
    case: Arc<Case>,
    version: Version,
    transport: Transport,
    site: Arc<Site>,
    rules: Vec<(String, Rule)>,
    patience: Duration,
    /// The name of the upload, where the client chooses it.
    token: String,
    uploads: Uploads,
    /// The path of each upload that any response named, those of ordinary requests too.
    made: BTreeSet<String>,
    standing: Option<(Standing, Outgoing)>,
    transcript: Transcript,
}

/// How a creation's upload is named.
enum Named {
    /// By the client.
    ByToken,
    /// By the server, with this URL.
    At(String),
}

/// What is not as it should be.
type Differences = Vec<String>;

/// A token that no other run uses.
pub(crate) fn fresh_token() -> String {
    let mut bits = [0_u8; 16];
    // Without random numbers every run has the same token, and the cases fail visibly.
    let _ = getrandom::fill(&mut bits);
    bits.iter().fold(String::from("check-"), |mut token, octet| {
        let _ = write!(token, "{octet:02x}");
        token
    })
}

impl Run {
    pub(crate) fn new(
        case: Arc<Case>,
        version: Version,
        transport: Transport,
        site: Arc<Site>,
        rules: Vec<(String, Rule)>,
    ) -> Self {
        Self {
            case,
            version,
            transport,
            site,
            rules,
            patience: Duration::ZERO,
            token: fresh_token(),
            uploads: Uploads::default(),
            made: BTreeSet::new(),
            standing: None,
            transcript: Transcript::default(),
        }
    }

    /// Runs it. Each exchange may take as long as `patience`.
    pub(crate) async fn judge(mut self, patience: Duration) -> Verdict {
        self.patience = patience;
        let differences = self.steps().await;
        drop(self.standing.take());
        self.clean_up().await;
        match differences {
            Ok(()) => Verdict::Passed,
            Err(differences) => {
                let mut why = String::new();
                for difference in differences {
                    let _ = writeln!(why, "- {difference}");
                }
                Verdict::Failed(why + self.transcript.text())
            }
        }
    }

    async fn steps(&mut self) -> Result<(), Differences> {
        let case = Arc::clone(&self.case);
        self.set_up(&case).await?;
        self.step(&case.send, &case.expect).await?;
        self.look(case.after.as_ref()).await?;
        for Step { send, stalled, rest, expect, after } in &case.then {
            if *stalled {
                let rest = rest.as_ref().map(super::case::Content::bytes);
                self.end_of_standing(rest, expect).await?;
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
        for (name, upload) in &case.given.uploads {
            self.give(upload, Some(name)).await.map_err(|why| given_fails(&why))?;
        }
        match case.given.upload() {
            Some(upload) => self.give(&upload, None).await.map_err(|why| given_fails(&why)),
            None => Ok(()),
        }
    }

    async fn give(&mut self, upload: &GivenUpload, name: Option<&String>) -> Result<(), Differences> {
        if self.version.dialect() == Dialect::Tus1 {
            return self.give_in_tus(upload, name).await;
        }
        let creation = Send {
            complete: Some(false),
            length: upload.length,
            fields: upload.fields.clone(),
            content: upload.content.clone(),
            names: name.cloned(),
            ..Send::of("POST")
        };
        self.step(&creation, &Expect::success()).await?;
        if !upload.complete {
            return Ok(());
        }
        let append = Send {
            to: To::Upload,
            complete: Some(true),
            offset: Some(Number::Word("told".into())),
            ..Send::of("PATCH")
        };
        self.step(&append, &Expect::success()).await
    }

    /// The core and the creation extension are enough for it, and deferral where nothing says how long it is.
    async fn give_in_tus(&mut self, upload: &GivenUpload, name: Option<&String>) -> Result<(), Differences> {
        let GivenUpload { content, length, complete, fields } = upload;
        let bytes = content.as_ref().map_or(0, |content| content.bytes().len() as u64);
        let mut creation = Send {
            length: length.or_else(|| complete.then_some(bytes)),
            fields: fields.clone(),
            names: name.cloned(),
            ..Send::of("POST")
        };
        if creation.length.is_none() {
            let defer = ("Upload-Defer-Length".to_owned(), Lines::One("1".into()));
            creation.fields.extend([defer]);
        }
        self.step(&creation, &Expect::success()).await?;
        if bytes == 0 {
            return Ok(());
        }
        let append = Send {
            to: To::Upload,
            offset: Some(Number::Is(0)),
            content: content.clone(),
            ..Send::of("PATCH")
        };
        self.step(&append, &Expect::success()).await
    }

    async fn step(&mut self, send: &Send, expect: &Expect) -> Result<(), Differences> {
        let outgoing = self.outgoing(send).map_err(|why| vec![why])?;
        self.transcript.request(&outgoing);
        if let Some(count) = send.race {
            return self.race(&outgoing, send, expect, count).await;
        }
        let exchange = if send.patiently {
            self.exchange_until(&outgoing, expect).await?
        } else {
            self.exchange(&outgoing).await?
        };
        let heard = match exchange {
            Exchange::Ended(heard) => heard,
            Exchange::Standing(standing) => {
                let heard = standing.heard().clone();
                self.standing = Some((standing, outgoing.clone()));
                heard
            }
        };
        self.transcript.response(&heard, send.ends == Ends::Stall);
        self.hear(&heard, &outgoing, expect, send)
    }

    /// Sends it again until what is expected comes back, for as long as there is patience.
    async fn exchange_until(&self, outgoing: &Outgoing, expect: &Expect) -> Result<Exchange, Differences> {
        let times = self.patience.as_millis() / AGAIN_AFTER.as_millis();
        for _ in 0..times {
            let exchange = self.exchange(outgoing).await?;
            let Exchange::Ended(heard) = &exchange else { return Ok(exchange) };
            if judge::response(heard, expect, &self.asked(outgoing), Ends::Whole).is_empty() {
                return Ok(exchange);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.exchange(outgoing).await
    }

    async fn exchange(&self, outgoing: &Outgoing) -> Result<Exchange, Differences> {
        match timeout(self.patience, wire::exchange(self.transport, &self.site, outgoing)).await {
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
            let (outgoing, site) = (outgoing.clone(), Arc::clone(&self.site));
            let (transport, patience) = (self.transport, self.patience);
            running.spawn(async move {
                match timeout(patience, wire::exchange(transport, &site, &outgoing)).await {
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
            self.transcript.response(heard, false);
            self.note_made(heard);
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

    async fn end_of_standing(&mut self, rest: Option<Vec<u8>>, expect: &Expect) -> Result<(), Differences> {
        let Some((mut standing, outgoing)) = self.standing.take() else {
            return Err(vec!["no request is left standing".into()]);
        };
        let known = standing.heard().interims.len();
        self.transcript.note("the request that was left standing");
        let end = async move {
            if let Some(rest) = rest {
                standing.send(rest).await;
            }
            standing.end().await
        };
        let Ok(mut heard) = timeout(self.patience, end).await else {
            return Err(vec![format!("the standing request does not end in {:?}", self.patience)]);
        };
        heard.interims.drain(..known);
        self.transcript.response(&heard, false);
        self.hear(&heard, &outgoing, expect, &Send::of(&outgoing.method))
    }

    /// Judges what came back and remembers what it said.
    fn hear(
        &mut self,
        heard: &Heard,
        outgoing: &Outgoing,
        expect: &Expect,
        send: &Send,
    ) -> Result<(), Differences> {
        self.note_made(heard);
        let asked = self.asked(outgoing);
        let mut differences = judge::response(heard, expect, &asked, send.ends);
        let named = self.named(heard, &asked);
        let of = self.told_of(outgoing, named.as_ref());
        let largest = if named.is_some() { 0 } else { self.uploads.largest(&of) };
        for (name, rule) in &self.rules {
            let broken = rules::broken(*rule, heard, expect, &asked, largest);
            differences.extend(broken.into_iter().map(|broken| format!("{name}: {broken}")));
        }
        let is_cancelled = outgoing.method == "DELETE" && succeeds(heard);
        self.uploads.hear(&of, named.is_some(), heard);
        if let Some(Named::At(url)) = named {
            self.uploads.add(&url, send.names.as_deref());
        }
        if is_cancelled {
            self.uploads.forget();
        }
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    /// What the offsets of an exchange are those of: an upload by its path, or a part by its number.
    fn told_of(&self, outgoing: &Outgoing, named: Option<&Named>) -> String {
        if let Some(Named::At(url)) = named {
            return wire::path_of(url).unwrap_or_default();
        }
        let index = outgoing.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("upload-index"));
        match index {
            Some((_, index)) if self.version.dialect() == Dialect::Token => {
                index.split(';').next().unwrap_or_default().trim().to_owned()
            }
            _ => outgoing.target.clone(),
        }
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
        wire::path_of(location).map(|_| Named::At(location.to_owned()))
    }

    fn asked<'a>(&'a self, outgoing: &'a Outgoing) -> Asked<'a> {
        Asked {
            version: self.version,
            outgoing,
            uploads: &self.uploads,
            creates: !self.is_upload(outgoing),
            target: self.site.path(),
        }
    }

    fn is_upload(&self, outgoing: &Outgoing) -> bool {
        self.uploads.paths().any(|path| path == outgoing.target)
            || (self.version.dialect() == Dialect::Token && outgoing.method != "POST")
    }

    /// Asks for the upload's state, and compares.
    async fn look(&mut self, after: Option<&After>) -> Result<(), Differences> {
        let Some(after) = after else { return Ok(()) };
        let head = Send { to: To::Upload, of: after.of.clone(), ..Send::of("HEAD") };
        let expect = judge::after(after, self.version);
        self.step(&head, &expect).await?;
        match (after.offset_max, self.uploads.told()) {
            (Some(most), Some(told)) if !after.gone && told > most => {
                Err(vec![format!("the offset is {told}, more than {most}")])
            }
            _ => Ok(()),
        }
    }

    /// Remembers the upload that a response names, to delete it in the end.
    fn note_made(&mut self, heard: &Heard) {
        let announced = heard.interims.iter().filter(|head| head.status == 104);
        let created =
            heard.last.as_ref().map(|(head, _)| head).filter(|head| (200..300).contains(&head.status));
        let urls = announced.chain(created).filter_map(|head| head.field("location"));
        self.made.extend(urls.filter_map(wire::path_of));
    }

    /// Deletes every upload of the run, however the run ended.
    async fn clean_up(&mut self) {
        let cancel = Send { to: To::Upload, ..Send::of("DELETE") };
        let paths: BTreeSet<String> = match self.version.dialect() {
            Dialect::Token => [self.site.path().to_owned()].into(),
            Dialect::Ietf | Dialect::Tus1 => self.uploads.paths().collect(),
        };
        for path in paths {
            if let Ok(outgoing) = self.outgoing(&cancel)
                && let Ok(Exchange::Ended(heard)) =
                    self.exchange(&Outgoing { target: path.clone(), ..outgoing }).await
                && succeeds(&heard)
            {
                self.made.remove(&path);
            }
        }
        // An upload that an ordinary request made is deleted by an ordinary request.
        self.made.remove(self.site.path());
        let plain = Speaker { version: Version::Rfc, site: &self.site, token: "", uploads: &self.uploads };
        for path in &self.made {
            if let Ok(outgoing) = plain.outgoing(&Send::of("DELETE")) {
                let _ = self.exchange(&Outgoing { target: path.clone(), ..outgoing }).await;
            }
        }
    }

    fn outgoing(&self, send: &Send) -> Result<Outgoing, String> {
        let Self { version, site, token, uploads, .. } = self;
        Speaker { version: *version, site, token, uploads }.outgoing(send)
    }
}

fn succeeds(heard: &Heard) -> bool {
    heard.last.as_ref().is_some_and(|(head, _)| (200..300).contains(&head.status))
}

fn given_fails(why: &[String]) -> Differences {
    why.iter().map(|why| format!("what is given cannot be had: {why}")).collect()
}

impl Expect {
    fn success() -> Self {
        Self { status: Some(Status::Class("2xx".into())), ..Self::default() }
    }
}
