//! The target that puts each representation into a directory, under a name made from a template.

use std::path::PathBuf;

use hoist_proto::types::Timestamp;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::{BoxFuture, Error};
use http::StatusCode;

use super::{Representation, Target};
use crate::filename;

/// Puts content into a directory. A file appears there whole or not at all, and none is ever overwritten.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    template: String,
}

/// A template that names no file, or not one of this directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "file name template {template:?} {wrong}; it is one path segment with {{name}}, {{id}} or {{date}} in it"
)]
pub struct BadTemplate {
    template: String,
    wrong: &'static str,
}

impl Files {
    /// Files go to `directory`, named by `template`: `{name}` is what the client called the content (its id where it did
    /// not), `{id}` the upload's id, `{date}` the day of its creation as `2026-11-22` in UTC.
    ///
    /// # Errors
    /// When the template has another placeholder, a path separator, or none of the placeholders.
    pub fn new(directory: impl Into<PathBuf>, template: &str) -> Result<Self, BadTemplate> {
        let bad = |wrong| Err(BadTemplate { template: template.to_owned(), wrong });
        let fixed =
            PLACEHOLDERS.iter().fold(template.to_owned(), |text, placeholder| text.replace(placeholder, ""));
        if fixed.contains(['{', '}']) {
            return bad("has a placeholder that does not exist");
        }
        if fixed.contains(['/', '\\', '\0']) {
            return bad("has a path separator");
        }
        if fixed == template {
            return bad("would give every upload the same name");
        }
        Ok(Self { directory: directory.into(), template: template.to_owned() })
    }

    fn name(&self, upload: &Upload, endpoint: &str) -> String {
        let id = upload.id.to_string();
        let given = filename::of(&upload.origin, endpoint).unwrap_or_else(|| id.clone());
        // The client's part goes in last, so that nothing it contains is taken for a placeholder.
        let name = self
            .template
            .replace("{id}", &id)
            .replace("{date}", &date(upload.created))
            .replace("{name}", &given);
        filename::sanitise(&name).unwrap_or(id)
    }
}

const PLACEHOLDERS: [&str; 3] = ["{name}", "{id}", "{date}"];

impl Target for Files {
    fn deliver<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<TargetResponse, Error>> {
        Box::pin(async move {
            let Representation { upload, store, fence, endpoint } = representation;
            let name = self.name(upload, endpoint);
            let given = store.export(upload.id, &self.directory, &name, fence).await?;
            tracing::info!(upload = %upload.id.short(), file = %given, "put into the directory");
            Ok(TargetResponse::of(StatusCode::CREATED))
        })
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
    fn a_template_is_one_segment_that_tells_uploads_apart() {
        for good in ["{name}", "{id}", "{date}-{name}", "upload {id}.bin"] {
            assert!(Files::new("/srv", good).is_ok(), "{good}");
        }
        for bad in ["", "file", "{user}", "{name", "a/{name}", "..\\{id}", "{{name}}"] {
            assert!(Files::new("/srv", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_have_their_dates() {
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
