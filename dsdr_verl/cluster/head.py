"""What is asked of a head through its dashboard: nodes and jobs. Every failure is a `ClusterError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dsdr_verl.cluster.backends import ClusterError

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raises:
    ClusterError: for what Ray's clients raise when the head does not answer, or not with this token.
    """
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(f"the head takes another token: {_first_line(error)}") from error
    except (ConnectionError, RayStateApiException, RuntimeError) as error:
        if isinstance(error, ClusterError):
            raise
        raise ClusterError(
            f"Ray's dashboard does not answer: {_first_line(error)}; make cluster-up starts what has gone"
        ) from error


def job_client(url: str):
    """A `ray.job_submission.JobSubmissionClient`.

    Raises:
        ClusterError: as `answering`.
    """
    from ray.job_submission import JobSubmissionClient

    with answering():
        return JobSubmissionClient(url)


def nodes(url: str) -> list:
    """A `ray.util.state.common.NodeState` for each node that has been there.

    Raises:
        ClusterError: as `answering`.
    """
    from ray.util.state import list_nodes

    with answering():
        return list_nodes(address=url, detail=True, timeout=30, limit=10_000)


def jobs(url: str) -> list:
    """The submitted jobs, the newest last.

    Raises:
        ClusterError: as `answering`.
    """
    with answering():
        found = [job for job in job_client(url).list_jobs() if job.submission_id]
    return sorted(found, key=lambda job: job.start_time or 0)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
