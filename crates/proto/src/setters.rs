//! Chained setters for structs of settings, so that a new setting breaks no program.

/// Writes a setter for each field, named like it: `setters! { Limits { max_message: usize } optional { trace: Trace } }`. Those
/// behind `optional` are for fields that are an `Option`, and take the value with or without `Some`.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    ($settings:ident { $($field:ident: $type:ty),* $(,)? } $(optional { $($option:ident: $inner:ty),* $(,)? })?) => {
        impl $settings {
            $(
                #[doc = concat!("Sets the field `", stringify!($field), "`, where its meaning and its default are told.")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
            $($(
                #[doc = concat!("Sets the field `", stringify!($option), "`, where its meaning and its default are told. `Some` may be left out.")]
                #[must_use]
                pub fn $option(mut self, $option: impl Into<Option<$inner>>) -> Self {
                    self.$option = $option.into();
                    self
                }
            )*)?
        }
    };
}
