"""The argument `form` of layers that can be computed in several ways."""


class Forms:
    """Goes before a `keras.layers.Layer` among the bases of a layer; `FORMS` names its ways."""

    FORMS = ()

    def __init__(self, form, **kwargs):
        super().__init__(**kwargs)
        self.form = form
        if form not in ("auto", *self.FORMS):
            raise ValueError(f"form {form!r} is not known to {type(self).__name__}: use {self._choices()}")

    def refuse_forms(self, forms, why):
        """Raises if one of `forms` was asked for, because of `why`."""
        if self.form in forms:
            raise ValueError(f"form {self.form!r} does not apply: {why}; use {self._choices(but=forms)}")

    def refuse_form(self, form, why):
        """Raises if `form` was asked for, because of `why`."""
        self.refuse_forms((form,), why)

    def _choices(self, but=()):
        return ", ".join(repr(form) for form in ("auto", *self.FORMS) if form not in but)

    def get_config(self):
        return {**super().get_config(), "form": self.form}
