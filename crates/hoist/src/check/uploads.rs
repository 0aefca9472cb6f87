//! What a run remembers of the uploads it made: their URLs, the names the case gives them, the offsets it was told.

use std::collections::BTreeMap;

use super::wire::{Responses, path_of};

/// The uploads of a run.
#[derive(Default)]
pub(crate) struct Uploads {
    /// The URLs of all of them as they were told, the last one last.
    urls: Vec<String>,
    named: BTreeMap<String, String>,
    /// The offset that was told last, of whichever upload.
    last_offset: Option<u64>,
    /// The `max_offset` offset that was told of each upload, or part of one.
    max_offsets: BTreeMap<String, u64>,
}

impl Uploads {
    /// Remembers the URL of a new one, and its name.
    pub(crate) fn add(&mut self, url: &str, name: Option<&str>) {
        self.urls.push(url.to_owned());
        if let Some(name) = name {
            self.named.insert(name.to_owned(), url.to_owned());
        }
    }

    /// The path of the last one, or of the one with a name.
    pub(crate) fn path(&self, name: Option<&str>) -> Option<String> {
        let url = match name {
            Some(name) => self.named.get(name),
            None => self.urls.last(),
        };
        path_of(url?)
    }

    /// The paths of all of them, the last one first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.urls.iter().rev().filter_map(|url| path_of(url))
    }

    /// A text with the URL of `a` for `{a}` and its path for `{a.path}`.
    pub(crate) fn fill(&self, text: &str) -> String {
        self.named.iter().fold(text.to_owned(), |text, (name, url)| {
            let path = path_of(url).unwrap_or_default();
            text.replace(&format!("{{{name}.path}}"), &path).replace(&format!("{{{name}}}"), url)
        })
    }

    pub(crate) fn last_offset(&self) -> Option<u64> {
        self.last_offset
    }

    pub(crate) fn max_offset(&self, of: &str) -> u64 {
        self.max_offsets.get(of).copied().unwrap_or_default()
    }

    /// Counts the offsets that were told of one. `is_new` is whether it has just begun.
    pub(crate) fn record_offsets(&mut self, of: &str, is_new: bool, responses: &Responses) {
        let max_offset = self.max_offsets.entry(of.to_owned()).or_default();
        if is_new {
            *max_offset = 0;
        }
        let heads = responses.interims.iter().chain(responses.last.as_ref().map(|(head, _)| head));
        for offset in heads.filter_map(|head| head.field("upload-offset")?.parse().ok()) {
            self.last_offset = Some(offset);
            *max_offset = offset.max(*max_offset);
        }
    }

    /// Nothing that was told holds after a cancellation: of what is made of parts, less may be there.
    pub(crate) fn clear_offsets(&mut self) {
        self.max_offsets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_urls_and_paths() {
        let mut uploads = Uploads::default();
        uploads.add("http://h:1/uploads/1", Some("a"));
        uploads.add("/uploads/2", Some("b"));
        uploads.add("http://h:1/uploads/3", None);
        let filled = uploads.fill("final;{a} {b} http://x{a.path} {c}");
        assert_eq!(filled, "final;http://h:1/uploads/1 /uploads/2 http://x/uploads/1 {c}");
        assert_eq!(uploads.path(None).as_deref(), Some("/uploads/3"));
        assert_eq!(uploads.path(Some("a")).as_deref(), Some("/uploads/1"));
        assert_eq!(uploads.path(Some("c")), None);
    }
}
