//! The table of the routes below `/v1`. The service finds a request's route in it, and the `OpenAPI` document is made from it.

use http::Method;

/// The effect of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    ListUploads,
    ShowUpload,
    DeleteUpload,
    EndTransfer,
    ExpireUpload,
    RedeliverUpload,
    StreamEvents,
    ShowAdmission,
    SetAdmission,
    Sweep,
    Reload,
    ShowConfig,
    ShowDocument,
}

/// A route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) verb: Verb,
    pub(super) method: Method,
    /// The path. A segment in braces stands for the id of an upload.
    pub(super) path: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// The name of the operation in the document.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// The statuses of its errors, besides 401 of every route.
    pub(super) errors: &'static [u16],
}

/// A parameter in the query of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    State,
    Owner,
    Age,
    Cursor,
    Limit,
    DryRun,
}

impl Parameter {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Owner => "owner",
            Self::Age => "age",
            Self::Cursor => "cursor",
            Self::Limit => "limit",
            Self::DryRun => "dry-run",
        }
    }
}

/// The segment that stands for the id of an upload.
pub(super) const ID: &str = "{id}";

const fn route(verb: Verb, method: Method, path: &'static str, operation: &'static str) -> Route {
    Route { verb, method, path, parameters: &[], operation, summary: "", description: "", errors: &[] }
}

impl Route {
    const fn says(mut self, summary: &'static str, description: &'static str) -> Self {
        (self.summary, self.description) = (summary, description);
        self
    }

    const fn with(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn fails(mut self, errors: &'static [u16]) -> Self {
        self.errors = errors;
        self
    }
}

pub(super) static ROUTES: &[Route] = &[
    route(Verb::ListUploads, Method::GET, "/v1/uploads", "listUploads")
        .says(
            "List uploads",
            "In pages, in no particular order, those that are open before the others. A page ends early if few uploads match: \
             it may be empty and still have a next one. An upload that exists from the first page to the last is on one of them, \
             and on two if it was completed in between. Does not disturb running transfers.",
        )
        .with(&[
            Parameter::State,
            Parameter::Owner,
            Parameter::Age,
            Parameter::Limit,
            Parameter::Cursor,
        ])
        .fails(&[400, 500]),
    route(Verb::ShowUpload, Method::GET, "/v1/uploads/{id}", "showUpload")
        .says("Show an upload", "Whether a transfer is running, its client and its rate. Does not disturb it.")
        .fails(&[404, 500]),
    route(Verb::DeleteUpload, Method::DELETE, "/v1/uploads/{id}", "deleteUpload")
        .says(
            "Delete an upload",
            "As its client could: a running transfer ends, content and record are removed. Works for a damaged upload too.",
        )
        .fails(&[404, 500, 503]),
    route(Verb::EndTransfer, Method::POST, "/v1/uploads/{id}/end", "endTransfer")
        .says(
            "End the transfer that is running on an upload",
            "Its bytes are kept, and its client can resume at once. Answers with the upload once the bytes are stored.",
        )
        .fails(&[404, 409, 500]),
    route(Verb::ExpireUpload, Method::POST, "/v1/uploads/{id}/expire", "expireUpload")
        .says("Remove an upload as if its lifetime were over", "A running transfer ends.")
        .fails(&[404, 500, 503]),
    route(Verb::RedeliverUpload, Method::POST, "/v1/uploads/{id}/redeliver", "redeliverUpload")
        .says(
            "Deliver a received upload to the target now",
            "Without waiting for the next attempt after those that failed. If this one fails too, attempts go on by themselves.",
        )
        .fails(&[404, 409, 500, 503]),
    route(Verb::StreamEvents, Method::GET, "/v1/live", "streamEvents")
        .says(
            "Stream what happens, as server-sent events",
            "`created`, `received`, `ended`, `removed`, `interrupted` and `refused` as they happen; `transfers` every second, with \
             the running transfers and their rates; `missed` if the reader was too slow for some events. Events from before are not sent.",
        )
        .fails(&[503]),
    route(Verb::ShowAdmission, Method::GET, "/v1/admission", "showAdmission").says(
        "Show the admission mode",
        "The requests with content that are let in.",
    ),
    route(Verb::SetAdmission, Method::POST, "/v1/admission", "setAdmission")
        .says(
            "Change the admission mode",
            "`open` lets all requests in. `resume-only` refuses creations with 503 and Retry-After, but not a further part of an \
             upload that exists. `closed` refuses appends too. Requests without content are always answered, and running \
             transfers continue. The mode is kept until the process ends.",
        )
        .fails(&[400, 413, 415]),
    route(Verb::Sweep, Method::POST, "/v1/sweep", "sweep")
        .says(
            "Remove expired uploads, and deliver those that are due",
            "Answers when it is done, with the numbers. With `dry-run` nothing is removed or delivered.",
        )
        .with(&[Parameter::DryRun])
        .fails(&[400, 500, 503]),
    route(Verb::Reload, Method::POST, "/v1/reload", "reload")
        .says(
            "Read the configuration again",
            "As SIGHUP does. If anything in it is wrong, nothing changes, and the answer lists the problems.",
        )
        .fails(&[404, 409, 503]),
    route(Verb::ShowConfig, Method::GET, "/v1/config", "showConfig")
        .says("Show the configuration in force", "Each setting with its value and its source. Secrets are left out.")
        .fails(&[404]),
    route(Verb::ShowDocument, Method::GET, "/v1/openapi.json", "showDocument")
        .says("Show this document", "OpenAPI 3.1."),
];

/// A route of a path, and the id in the path.
pub(super) struct Found<'a> {
    pub(super) route: &'static Route,
    pub(super) id: Option<&'a str>,
}

/// Returns the routes that a path has, one for each method.
pub(super) fn at(path: &str) -> Vec<Found<'_>> {
    ROUTES.iter().filter_map(|route| route.found_at(path)).collect()
}

impl Route {
    /// Compares the path of a request with that of the route.
    fn found_at<'a>(&'static self, path: &'a str) -> Option<Found<'a>> {
        let (mut segments, mut id) = (path.split('/'), None);
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            if expected == ID && !segment.is_empty() {
                id = Some(segment);
            } else if expected != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(Found { route: self, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_routes_and_no_others() {
        let cases: [(&str, &[Verb], Option<&str>); 12] = [
            ("/v1/uploads", &[Verb::ListUploads], None),
            ("/v1/uploads/abc", &[Verb::ShowUpload, Verb::DeleteUpload], Some("abc")),
            ("/v1/uploads/abc/end", &[Verb::EndTransfer], Some("abc")),
            ("/v1/admission", &[Verb::ShowAdmission, Verb::SetAdmission], None),
            ("/v1/openapi.json", &[Verb::ShowDocument], None),
            ("/v1/uploads/", &[], None),
            ("/v1/uploads//end", &[], None),
            ("/v1/uploads/abc/end/", &[], None),
            ("/v1/uploads/{id}/nothing", &[], None),
            ("/v1", &[], None),
            ("/v1/", &[], None),
            ("/V1/uploads", &[], None),
        ];
        for (path, verbs, id) in cases {
            let found = at(path);
            assert_eq!(found.iter().map(|found| found.route.verb).collect::<Vec<_>>(), verbs, "{path}");
            assert!(found.iter().all(|found| found.id == id), "{path}");
        }
    }

    #[test]
    fn each_route_is_one_of_a_kind_and_is_described() {
        for (index, route) in ROUTES.iter().enumerate() {
            for other in &ROUTES[..index] {
                assert!(route.verb != other.verb && route.operation != other.operation, "{route:?}");
                assert!((route.path, &route.method) != (other.path, &other.method), "{route:?}");
            }
            assert!(!route.summary.is_empty() && !route.description.is_empty(), "{route:?}");
        }
    }
}
