//! Routing by path: uploads below the endpoint, and the few paths the server answers itself.

use hoist_proto::dialect::Resource;
use http::Method;

/// The resource that a path leads to.
pub(crate) enum Route {
    /// The upload URL, or one below it.
    At(Resource),
    WellKnown,
    Health,
    Readiness,
    Nowhere,
}

const WELL_KNOWN: &str = "/.well-known/resumable-uploads";
pub(crate) const HEALTH: &str = "/healthz";
pub(crate) const READINESS: &str = "/readyz";

/// Paths of the server's own, which cannot be the endpoint.
pub(crate) const RESERVED: [&str; 3] = [WELL_KNOWN, HEALTH, READINESS];

//= TUS1-DF-12, TUS1-DF-15
pub(crate) fn route(path: &str, method: &Method, endpoint: &str) -> Route {
    match path {
        WELL_KNOWN => return Route::WellKnown,
        HEALTH => return Route::Health,
        READINESS => return Route::Readiness,
        //= IETF-OPT-03
        "*" if method == Method::OPTIONS => return Route::At(Resource::Endpoint),
        _ => {}
    }
    match path.strip_prefix(endpoint.trim_end_matches('/')) {
        //= TUS1-DF-15
        Some("" | "/") => Route::At(Resource::Endpoint),
        //= IETF-RES-04
        Some(below) if let Some(name) = below.strip_prefix('/') => {
            let id = name.strip_suffix('/').unwrap_or(name).parse();
            Route::At(id.map_or(Resource::Named, Resource::Upload))
        }
        Some(_) | None => Route::Nowhere,
    }
}
