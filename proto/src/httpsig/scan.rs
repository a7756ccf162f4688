//! Finds what a structured-field parser must by its RFC overlook: repeated dictionary keys and parameters, of which
//! only the last counts. In a signature a repeated one is somebody's attempt to be read differently by two readers.

use std::convert::Infallible;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

use super::HttpSigError;

/// Checks that no label of this dictionary, and no parameter of any member, is there twice.
/// `header` names it in errors.
pub(super) fn refuse_duplicates(header: &'static str, value: &str) -> Result<(), HttpSigError> {
    let scan = Parser::new(value)
        .parse_dictionary_with_visitor(Scan::default())
        .map_err(|error| HttpSigError::MalformedHeader { header, why: error.to_string() })?;
    match scan {
        Scan { repeated_label: Some(label), .. } => Err(HttpSigError::DuplicateLabel(label)),
        Scan { repeated_parameter: Some(name), .. } => Err(HttpSigError::DuplicateParameter(name)),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Scan {
    labels: Vec<String>,
    /// Parameters of the member being read.
    parameters: Vec<String>,
    repeated_label: Option<String>,
    repeated_parameter: Option<String>,
}

impl<'de> DictionaryVisitor<'de> for Scan {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        let label = key.as_str().to_owned();
        if self.labels.contains(&label) {
            self.repeated_label = Some(label);
        } else {
            self.labels.push(label);
        }
        self.parameters.clear();
        Ok(self)
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

impl<'de> EntryVisitor<'de> for &mut Scan {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(self)
    }
}

impl<'de> ItemVisitor<'de> for &mut Scan {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        _: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for &mut Scan {
    type Error = Infallible;

    /// Parameters of components are refused altogether, elsewhere.
    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(Ignored)
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Infallible> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for &mut Scan {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, _: BareItemFromInput<'de>) -> Result<(), Infallible> {
        let name = key.as_str().to_owned();
        if self.parameters.contains(&name) {
            self.repeated_parameter = Some(name);
        } else {
            self.parameters.push(name);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}
