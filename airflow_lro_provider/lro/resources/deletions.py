"""What the DELETE methods of each API are called on, as Google's discovery documents have it.

An API answers a path that it does not have with 404, too, often in JSON ("Method not found."): as if there was nothing
to delete. The table (``deletions.json``, by ``tools/generate_services.py`` of this project's repository) is read only
for those who believe such a 404.
"""

from __future__ import annotations

from airflow_lro_provider.lro.errors import InvalidReferenceError
from airflow_lro_provider.lro.resources.catalog import find_service, patterns_in
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.patterns import fits_one, misspelt


def check_deletion(method: Method) -> None:
    """Refuse a DELETE whose 404 would say nothing: of a path that this version of the API does not have.

    :raises InvalidReferenceError: if discovery knows the API, but no such method.
    """
    service = find_service(method.service)
    known = patterns_in("deletions.json").get(service.name, {}).get(method.version)
    if known is None or service.offers("delete", method.path, method.version) or fits_one(method.path, known):
        return
    near = misspelt(method.path, known)
    raise InvalidReferenceError(
        f"{service.title} ({service.name} {method.version}) is not known to delete anything like {method.path!r:.200}"
        f"{f' (but {near})' if near else ''}; nothing was sent. It would answer 404, which"
        ' if_missing="return" would take for a success. Check the path and the API version, or leave that out.'
    )
