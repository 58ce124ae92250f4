"""The argument `form` of layers that can be computed in several ways."""


class Forms:
    """Goes before a `keras.layers.Layer` among the bases of a layer; `FORMS` names its ways."""

    FORMS = ()

    def __init__(self, form, **kwargs):
        super().__init__(**kwargs)
        self.form = form
        if form not in ("auto", *self.FORMS):
            raise ValueError(f"form {form!r} is not known to {type(self).__name__}: use {self._choices()}")

    def refuse_form(self, form, why):
        """Raises if `form` was asked for, because of `why`."""
        if self.form == form:
            raise ValueError(f"form {form!r} does not apply: {why}; use {self._choices(but=form)}")

    def _choices(self, but=None):
        return ", ".join(repr(f) for f in ("auto", *self.FORMS) if f != but)

    def get_config(self):
        return {**super().get_config(), "form": self.form}
