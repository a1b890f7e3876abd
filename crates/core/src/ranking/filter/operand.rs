//! The operands of comparisons: fields and attributes of the item, attributes of the user, values
//! of the request's context, and constants.

use crate::domain::{AttributeValue, AttributeView, Attributes, CatalogItem, Timestamp};
use std::sync::Arc;

/// What a comparison reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// A field that every catalog has.
    Field(FilterField),
    /// A text for display.
    Detail(DetailField),
    /// A free attribute of the item.
    Attribute(Box<str>),
    /// A value that is bound before the evaluation. Until then, it is missing.
    Unbound(OperandScope, Box<str>),
    Constant(AttributeValue),
}

/// Where an operand gets its value before the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperandScope {
    User,
    Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterField {
    Text(TextField),
    Price,
    Time(TimeField),
    Available,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextField {
    Category,
    Brand,
    Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeField {
    Published,
    Expires,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DetailField {
    Title,
    Url,
    Image,
}

/// The type of an operand, as far as the expression determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperandType {
    Text,
    Number,
    Time,
    Boolean,
}

impl OperandType {
    /// The type with its article, for error messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Time => "a time",
            Self::Boolean => "true or false",
        }
    }
}

impl TextField {
    pub(super) fn values_of(self, item: &CatalogItem) -> &[Arc<str>] {
        match self {
            Self::Category => item.categories(),
            Self::Brand => item.brand().map_or(&[], std::slice::from_ref),
            Self::Tags => item.tags(),
        }
    }
}

impl TimeField {
    pub(super) fn value_of(self, item: &CatalogItem) -> Option<Timestamp> {
        match self {
            Self::Published => item.published(),
            Self::Expires => item.expires(),
        }
    }
}

impl FilterField {
    /// All fields with their names.
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("category", Self::Text(TextField::Category)),
        ("brand", Self::Text(TextField::Brand)),
        ("price", Self::Price),
        ("tags", Self::Text(TextField::Tags)),
        ("available", Self::Available),
        ("published", Self::Time(TimeField::Published)),
        ("expires", Self::Time(TimeField::Expires)),
    ];

    /// The field of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    /// The value of the field; `None` if the item does not have it.
    pub(super) fn value_of(self, item: &CatalogItem) -> Option<AttributeView<'_>> {
        match self {
            Self::Text(field) => {
                Some(field.values_of(item)).filter(|values| !values.is_empty()).map(AttributeView::Texts)
            }
            Self::Price => item.price().map(AttributeView::Number),
            Self::Time(field) => field.value_of(item).map(|time| AttributeView::Number(time as f64)),
            Self::Available => Some(AttributeView::Boolean(item.is_available())),
        }
    }

    fn operand_type(self) -> OperandType {
        match self {
            Self::Text(_) => OperandType::Text,
            Self::Price => OperandType::Number,
            Self::Time(_) => OperandType::Time,
            Self::Available => OperandType::Boolean,
        }
    }
}

impl Operand {
    /// The operand `item.name`: a field, a text for display or a free attribute.
    pub(super) fn of_item(name: &str) -> Self {
        match (FilterField::from_name(name), name) {
            (Some(field), _) => Self::Field(field),
            (None, "title") => Self::Detail(DetailField::Title),
            (None, "url") => Self::Detail(DetailField::Url),
            (None, "image") => Self::Detail(DetailField::Image),
            (None, _) => Self::Attribute(name.into()),
        }
    }

    /// The value of the operand; `None` if it is missing.
    pub(super) fn value_of<'v>(&'v self, item: &'v CatalogItem) -> Option<AttributeView<'v>> {
        match self {
            Self::Field(field) => field.value_of(item),
            Self::Detail(field) => {
                let details = item.details()?;
                let text = match field {
                    DetailField::Title => &details.title,
                    DetailField::Url => &details.url,
                    DetailField::Image => &details.image,
                };
                text.as_deref().map(AttributeView::Text)
            }
            Self::Attribute(name) => item.details()?.attributes.get(name),
            Self::Unbound(..) => None,
            Self::Constant(value) => Some(value.view()),
        }
    }

    /// The type of the operand; `None` if it depends on the item, the user or the request.
    pub(super) fn operand_type(&self) -> Option<OperandType> {
        match self {
            Self::Field(field) => Some(field.operand_type()),
            Self::Detail(_) => Some(OperandType::Text),
            Self::Attribute(_) | Self::Unbound(..) => None,
            Self::Constant(AttributeValue::Text(_) | AttributeValue::Texts(_)) => Some(OperandType::Text),
            Self::Constant(AttributeValue::Number(_) | AttributeValue::Numbers(_)) => Some(OperandType::Number),
            Self::Constant(AttributeValue::Boolean(_)) => Some(OperandType::Boolean),
        }
    }

    /// Whether an item without this operand satisfies `!=`.
    pub(super) fn is_field(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    /// Replaces an operand of a scope by its value; `None` if there is no such value.
    pub(super) fn bound(&self, scope: OperandScope, values: &Attributes) -> Option<Self> {
        match self {
            Self::Unbound(of, name) if *of == scope => values.value(name).cloned().map(Self::Constant),
            operand => Some(operand.clone()),
        }
    }

    /// Whether the operand reads values of a scope.
    pub(super) fn reads(&self, scope: OperandScope) -> bool {
        matches!(self, Self::Unbound(of, _) if *of == scope)
    }
}
