//! The text of a catalog as a tree of nodes that know their lines. YAML and JSON end in the same tree, so that all
//! checks behind it exist once.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// One value of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    /// Its line, from 1, when it is known.
    pub(super) line: Option<u64>,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// Any number: none is ever good in a catalog, so its value is not kept.
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What a person would call it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

impl Node {
    /// Reads JSON, without lines.
    pub(super) fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Json>(text).map(|json| node(json.0, None))
    }

    /// Reads YAML, with lines.
    pub(super) fn from_yaml(text: &str) -> Result<Self, serde_saphyr::Error> {
        // A bill's catalog may have tens of thousands of prices; the size of the text itself is bounded before.
        let budget = serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 16_000_000 };
        // Only `true` and `false` are booleans: a region called `no` is a text.
        let options = serde_saphyr::options! { budget: budget, strict_booleans: true, with_snippet: false };
        serde_saphyr::from_str_with_options::<Yaml>(text, options).map(Yaml::into_node)
    }

    /// The node of a JSON pointer, or the deepest one on the way to it.
    pub(super) fn nearest(&self, pointer: &str) -> &Self {
        let mut place = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &place.value {
                Value::List(nodes) => step.parse::<usize>().ok().and_then(|index| nodes.get(index)),
                Value::Map(fields) => fields.iter().find(|(name, _)| *name == step).map(|(_, node)| node),
                _ => None,
            };
            match next {
                Some(node) => place = node,
                None => return place,
            }
        }
        place
    }
}

/// A value whose inner nodes are read as `N`.
enum Raw<N> {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<N>),
    Map(Vec<(String, N)>),
}

struct Json(Raw<Json>);
struct Yaml(Spanned<Raw<Yaml>>);

impl Yaml {
    fn into_node(self) -> Node {
        node(self.0.value, Some(self.0.referenced.line()).filter(|line| *line > 0))
    }
}

trait IntoNode {
    fn into_node(self) -> Node;
}

impl IntoNode for Json {
    fn into_node(self) -> Node {
        node(self.0, None)
    }
}

impl IntoNode for Yaml {
    fn into_node(self) -> Node {
        Self::into_node(self)
    }
}

fn node<N: IntoNode>(raw: Raw<N>, line: Option<u64>) -> Node {
    let value = match raw {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number => Value::Number,
        Raw::Text(text) => Value::Text(text),
        Raw::List(nodes) => Value::List(nodes.into_iter().map(N::into_node).collect()),
        // With arbitrary precision serde_json hands a number over as an object with this one key.
        Raw::Map(fields) if fields.iter().any(|(name, _)| name == "$serde_json::private::Number") => {
            Value::Number
        }
        Raw::Map(fields) => {
            Value::Map(fields.into_iter().map(|(name, inner)| (name, inner.into_node())).collect())
        }
    };
    Node { line, value }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de, N: Deserialize<'de>> Deserialize<'de> for Raw<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor(PhantomData))
    }
}

struct RawVisitor<N>(PhantomData<N>);

impl<'de, N: Deserialize<'de>> Visitor<'de> for RawVisitor<N> {
    type Value = Raw<N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw<N>, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw<N>, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw<N>, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw<N>, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw<N>, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw<N>, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw<N>, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw<N>, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw<N>, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<N>, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw<N>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Raw::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<N>, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Raw::Map(fields))
    }
}
