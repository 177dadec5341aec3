//! Lists every field that a type reads, by letting it read from something that has them all.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

/// The paths of all fields of `T` that are no structures themselves, without the indexes of lists and the keys of maps.
pub(crate) fn fields<'de, T: Deserialize<'de>>() -> Vec<String> {
    let found = Rc::new(RefCell::new(Vec::new()));
    T::deserialize(Walk { path: String::new(), found: Rc::clone(&found) }).unwrap_or_else(|error| panic!("{error}"));
    let mut found = found.take();
    found.sort();
    found.dedup();
    found
}

/// A value of any type, at a path.
struct Walk {
    path: String,
    found: Rc<RefCell<Vec<String>>>,
}

impl Walk {
    fn at(&self, path: String) -> Self {
        Self { path, found: Rc::clone(&self.found) }
    }

    fn leaf(&self) {
        self.found.borrow_mut().push(self.path.clone());
    }

    /// A text that the reader takes.
    fn text(&self) -> &'static str {
        if self.path.starts_with("process.capabilities.") { "CAP_KILL" } else { "0" }
    }
}

/// A leaf that is a number.
macro_rules! numbers {
    ($($method:ident $visit:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.leaf();
            visitor.$visit(0)
        })*
    };
}

impl<'de> Deserializer<'de> for Walk {
    type Error = Error;

    numbers!(
        deserialize_i8 visit_i8, deserialize_i16 visit_i16, deserialize_i32 visit_i32, deserialize_i64 visit_i64,
        deserialize_u8 visit_u8, deserialize_u16 visit_u16, deserialize_u32 visit_u32, deserialize_u64 visit_u64
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        visitor.visit_bool(false)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        visitor.visit_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(de::value::SeqDeserializer::new([self].into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // What the keys are is the user's choice.
        self.leaf();
        visitor.visit_map(de::value::MapDeserializer::new(std::iter::empty::<(StrDeserializer<'de, Error>, Self)>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let dot = if self.path.is_empty() { "" } else { "." };
        let entries = fields.iter().map(|field| (*field, self.at(format!("{}{dot}{field}", self.path))));
        visitor.visit_map(de::value::MapDeserializer::new(entries))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.leaf();
        let first: StrDeserializer<'_, Error> = variants[0].into_deserializer();
        visitor.visit_enum(first)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom(fmt::format(format_args!("{}: a type that is not listed", self.path))))
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Walk {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
