"""The certificates that a setting names."""

from __future__ import annotations

import ssl

from simpletuner_lab.core.errors import SettingUnusable


def trusting(ca_bundle: str) -> ssl.SSLContext:
    """What trusts the certificates in a PEM file, and no others.

    Raises:
        SettingUnusable: it is not there, cannot be read, or has none.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        why = "has no certificates in it" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        raise SettingUnusable(
            f"ca_bundle: {ca_bundle} cannot be used: {why}", hint="a PEM file with the certificates to trust"
        ) from error
