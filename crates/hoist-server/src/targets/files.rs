//! A target that puts each representation into a directory, under a name from a template.

use std::path::PathBuf;

use hoist_proto::types::Timestamp;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::{BoxFuture, Error};
use http::StatusCode;

use super::{Delivery, Representation, Target};
use crate::{file_path, filename};

/// Puts content into a directory. A file appears there complete or not at all, and existing files are never overwritten.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    /// The segments of the template. [`PATH`] is the last, if it is one of them.
    template: Vec<String>,
}

/// The error for a malformed file name template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "file name template {template:?} {wrong}; use {{name}}, {{path}}, {{id}}, {{date}} and {{user}}, like {{user}}/{{path}}"
)]
pub struct BadTemplate {
    template: String,
    wrong: &'static str,
}

impl Files {
    /// Creates a target that puts files into `directory`, named by `template`: a file name, or directories and a file name
    /// separated by `/`.
    ///
    /// - `{name}` is the name that the client gave the content, or else its id.
    /// - `{path}` is that name with the directories of the client before it. It can only be the last segment, and all of it.
    ///   A path that leads upwards, is absolute, has more than 32 segments or more than 2048 octets is reduced to the name.
    ///   Names in it may begin with a dot.
    /// - `{id}` is the upload's id.
    /// - `{date}` is the day of its creation as `2026-11-22` in UTC.
    /// - `{user}` is the user that created it, percent-encoded, or `anonymous`.
    ///
    /// # Errors
    /// Returns [`BadTemplate`] if the template has another placeholder, an unsound segment, or no placeholder in the last
    /// one.
    pub fn new(directory: impl Into<PathBuf>, template: &str) -> Result<Self, BadTemplate> {
        let bad = |wrong| Err(BadTemplate { template: template.to_owned(), wrong });
        let segments: Vec<_> = template.split('/').collect();
        for (number, segment) in segments.iter().enumerate() {
            let fixed = PLACEHOLDERS
                .iter()
                .fold((*segment).to_owned(), |text, placeholder| text.replace(placeholder, ""));
            let is_last = number + 1 == segments.len();
            if fixed.contains(['{', '}']) {
                return bad("has an unknown placeholder");
            }
            if fixed.contains(['\\', '\0']) || matches!(*segment, "." | "..") {
                return bad("has a segment that is no file name");
            }
            if segment.is_empty() && !template.is_empty() {
                return bad("begins or ends with a slash, or has two in a row");
            }
            if segment.contains(PATH) && !(is_last && *segment == PATH) {
                return bad("has {path} before the end, or beside other text; write it as the last segment");
            }
            if is_last && fixed == *segment {
                return bad("would give every upload the same name");
            }
        }
        if segments.len() > TEMPLATE_SEGMENTS_MAX {
            return bad("has more than 16 segments");
        }
        let template = segments.into_iter().map(ToOwned::to_owned).collect();
        Ok(Self { directory: directory.into(), template })
    }

    /// Returns the path of an upload's file, relative to the directory.
    fn path(&self, upload: &Upload, endpoint: &str) -> String {
        if let Some(chosen) = &upload.file {
            return chosen.clone();
        }
        let id = upload.id.to_string();
        let given = || filename::of(&upload.origin, endpoint).unwrap_or_else(|| id.clone());
        let segment = |template: &String| {
            if template == PATH {
                return file_path::of(&upload.origin, endpoint).unwrap_or_else(given);
            }
            let user =
                upload.owner.as_ref().map_or("anonymous".to_owned(), |user| file_path::of_user(user.name()));
            // The client's name is inserted last, so that a placeholder in it is not replaced.
            let name = template
                .replace("{id}", &id)
                .replace("{date}", &date(upload.created))
                .replace("{user}", &user)
                .replace("{name}", &given());
            filename::sanitise(&name).unwrap_or_else(|| id.clone())
        };
        self.template.iter().map(segment).collect::<Vec<_>>().join("/")
    }
}

const PATH: &str = "{path}";
/// With the segments of a client's path, a store accepts them all.
const TEMPLATE_SEGMENTS_MAX: usize = 16;
const PLACEHOLDERS: [&str; 5] = ["{name}", PATH, "{id}", "{date}", "{user}"];

impl Target for Files {
    fn deliver<'a>(&'a self, representation: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        Box::pin(async move {
            let Representation { upload, store, fence, endpoint } = representation;
            let name = self.path(upload, endpoint);
            let given = store.export(upload.id, &self.directory, &name, fence).await?;
            tracing::debug!(upload = %upload.id.short(), file = %given, "delivered to the directory");
            Ok(Delivery { response: TargetResponse::of(StatusCode::CREATED), file: Some(given) })
        })
    }

    fn takes_paths(&self) -> bool {
        true
    }

    fn file(&self, upload: &Upload) -> Option<PathBuf> {
        let directory = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        upload.file.as_ref().map(|file| directory.join(file))
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

/// Returns the day of a time in UTC, as `2026-11-22`.
fn date(time: Timestamp) -> String {
    time.rfc3339().split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_needs_a_placeholder_in_its_name_and_sound_segments() {
        for good in [
            "{name}",
            "{id}",
            "{date}-{name}",
            "upload {id}.bin",
            "{path}",
            "{user}/{path}",
            "a/{name}",
            "{user}/{date}/in-{name}",
        ] {
            assert!(Files::new("/srv", good).is_ok(), "{good}");
        }
        let deep = "a/".repeat(16) + "{name}";
        for bad in [
            "",
            "file",
            "{nme}",
            "{name",
            "..\\{id}",
            "{{name}}",
            "/{name}",
            "{user}/",
            "a//{name}",
            "../{name}",
            "./{name}",
            "{user}/file",
            "{path}/x",
            "{path}/{name}",
            "in-{path}",
            "{path}.bin",
            &deep,
        ] {
            assert!(Files::new("/srv", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_made_of_what_the_client_sent() {
        use hoist_proto::types::{Principal, UploadId};

        let id = UploadId::from_bits([1; 16]);
        let alice = Some(Principal::new("https://id 1"));
        let cases: [(&str, Option<&str>, Option<Principal>, String); 9] = [
            ("{path}", Some("films/old/a.mkv"), None, "films/old/a.mkv".into()),
            ("{name}", Some("films/old/a.mkv"), None, "a.mkv".into()),
            ("{user}/{path}", Some("films/a"), alice.clone(), "https%3A%2F%2Fid%201/films/a".into()),
            ("{user}/{date}/{name}", Some("films/a"), None, "anonymous/1970-01-01/a".into()),
            ("{user}-{name}", Some("{user}/{id}"), alice, "https%3A%2F%2Fid%201-{id}".into()),
            ("{path}", Some("../films/a"), None, "a".into()),
            ("{path}", Some("/films/a"), None, "a".into()),
            ("in/{path}", Some(".."), None, format!("in/{id}")),
            ("in/{path}", None, None, format!("in/{id}")),
        ];
        for (template, given, owner, expected) in cases {
            let mut upload = hoist_proto::testing::upload(id);
            (upload.owner, upload.created) = (owner, Timestamp::from_millis(0));
            upload.origin.target = "/uploads".to_owned();
            upload.origin.fields.clear();
            if let Some(given) = given {
                let value = format!("attachment; filename=\"{given}\"");
                let value = http::HeaderValue::try_from(value).expect("visible ASCII");
                upload.origin.fields.insert(http::header::CONTENT_DISPOSITION, value);
            }
            let files = Files::new("/srv", template).expect("a template");
            assert_eq!(files.path(&upload, "/uploads"), expected, "{template} {given:?}");
        }
    }

    #[test]
    fn timestamps_are_formatted_as_utc_days() {
        let cases = [
            (0, "1970-01-01"),
            (86_399_999, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (951_868_800_000, "2000-03-01"),
            (1_795_305_600_000, "2026-11-22"),
            (4_107_456_000_000, "2100-02-28"),
            (4_107_542_400_000, "2100-03-01"),
        ];
        for (millis, expected) in cases {
            assert_eq!(date(Timestamp::from_millis(millis)), expected);
        }
    }
}
