//! The uploads of a run: their URLs, the names that the case gives them, and the offsets that the server reported.

use std::collections::BTreeMap;

use super::wire::{Responses, path_of};

/// The uploads of a run.
#[derive(Default)]
pub(crate) struct Uploads {
    /// All URLs as the server reported them, the newest last.
    urls: Vec<String>,
    named: BTreeMap<String, String>,
    /// The last reported offset of any upload.
    last_offset: Option<u64>,
    /// The largest reported offset of each upload or part.
    max_offsets: BTreeMap<String, u64>,
}

impl Uploads {
    /// Adds a new upload, with the name that the case gives it.
    pub(crate) fn add(&mut self, url: &str, name: Option<&str>) {
        self.urls.push(url.to_owned());
        if let Some(name) = name {
            self.named.insert(name.to_owned(), url.to_owned());
        }
    }

    /// Returns the path of the upload with this name, or of the newest one.
    pub(crate) fn path(&self, name: Option<&str>) -> Option<String> {
        let url = match name {
            Some(name) => self.named.get(name),
            None => self.urls.last(),
        };
        path_of(url?)
    }

    /// Returns all paths, the newest first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.urls.iter().rev().filter_map(|url| path_of(url))
    }

    /// Replaces `{a}` by the URL of the upload `a`, and `{a.path}` by its path.
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

    /// Records the offsets reported for an upload. `is_new` resets its maximum.
    pub(crate) fn record_offsets(&mut self, of: &str, is_new: bool, responses: &Responses) {
        let max_offset = self.max_offsets.entry(of.to_owned()).or_default();
        if is_new {
            *max_offset = 0;
        }
        for offset in responses.heads().filter_map(|head| head.field("upload-offset")?.parse().ok()) {
            self.last_offset = Some(offset);
            *max_offset = offset.max(*max_offset);
        }
    }

    /// Clears the maximum offsets. After a cancellation, an upload made of parts may report a smaller offset.
    pub(crate) fn clear_offsets(&mut self) {
        self.max_offsets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_by_urls_and_paths() {
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
