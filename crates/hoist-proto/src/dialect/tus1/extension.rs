//! What a tus 1.0 server may do beyond the core protocol, and what this one is told to.

use http::HeaderValue;

/// An extension of tus 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Uploads are created by `POST`.
    Creation,
    /// And may bring content with them.
    CreationWithUpload,
    /// And need not know their length.
    CreationDeferLength,
    /// Clients are told when unfinished uploads end.
    Expiration,
    /// The content of a request may be checked.
    Checksum,
    /// With the checksum behind it.
    ChecksumTrailer,
    /// Uploads are cancelled by `DELETE`.
    Termination,
    /// Uploads are made of others.
    Concatenation,
    /// Which need not be complete yet.
    ConcatenationUnfinished,
}

impl Extension {
    /// All of them, in the order they are told.
    pub const ALL: [Self; 9] = [
        Self::Creation,
        Self::CreationWithUpload,
        Self::CreationDeferLength,
        Self::Expiration,
        Self::Checksum,
        Self::ChecksumTrailer,
        Self::Termination,
        Self::Concatenation,
        Self::ConcatenationUnfinished,
    ];

    /// Its name in `Tus-Extension`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::CreationWithUpload => "creation-with-upload",
            Self::CreationDeferLength => "creation-defer-length",
            Self::Expiration => "expiration",
            Self::Checksum => "checksum",
            Self::ChecksumTrailer => "checksum-trailer",
            Self::Termination => "termination",
            Self::Concatenation => "concatenation",
            Self::ConcatenationUnfinished => "concatenation-unfinished",
        }
    }

    /// The extension of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.name() == name)
    }

    /// The one it is nothing without.
    const fn base(self) -> Option<Self> {
        match self {
            Self::CreationWithUpload | Self::CreationDeferLength | Self::Concatenation => {
                Some(Self::Creation)
            }
            Self::ChecksumTrailer => Some(Self::Checksum),
            Self::ConcatenationUnfinished => Some(Self::Concatenation),
            Self::Creation | Self::Expiration | Self::Checksum | Self::Termination => None,
        }
    }
}

/// Some extensions: by default all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    disabled: u16,
}

impl Extensions {
    /// All there are.
    pub const ALL: Self = Self { disabled: 0 };

    /// The same without one, and without those that build upon it.
    pub fn without(self, extension: Extension) -> Self {
        Self { disabled: self.disabled | 1 << extension as u16 }
    }

    /// Whether one is among them.
    pub fn has(self, extension: Extension) -> bool {
        self.disabled & 1 << extension as u16 == 0 && extension.base().is_none_or(|base| self.has(base))
    }

    /// Their names, if there are any.
    pub(super) fn names(self) -> Option<HeaderValue> {
        let names = Extension::ALL.into_iter().filter(|extension| self.has(*extension)).map(Extension::name);
        let names = names.collect::<Vec<_>>().join(",");
        (!names.is_empty()).then(|| HeaderValue::try_from(names).expect("names are ASCII"))
    }
}

impl Default for Extensions {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: TUS1-HDR-05
    #[test]
    fn an_extension_goes_with_those_that_build_upon_it() {
        let all = "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,\
                   concatenation,concatenation-unfinished";
        assert_eq!(Extensions::ALL.names().expect("some"), all);
        let fewer = Extensions::ALL.without(Extension::Checksum).without(Extension::Concatenation);
        let left = "creation,creation-with-upload,creation-defer-length,expiration,termination";
        assert_eq!(fewer.names().expect("some"), left);
        let none = Extension::ALL.into_iter().fold(Extensions::ALL, Extensions::without);
        assert_eq!(none.names(), None);
        assert_eq!(
            Extensions::ALL.without(Extension::Creation).names().expect("some"),
            "expiration,checksum,checksum-trailer,termination"
        );
        for extension in Extension::ALL {
            assert_eq!(Extension::of_name(extension.name()), Some(extension));
        }
    }
}
