//! Methods that set optional fields.

/// Defines a method for each optional field, which sets the field and returns the struct.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $kind) -> Self {
                self.$name = Some($name.into());
                self
            }
        )*
    };
}

pub(crate) use setters;
