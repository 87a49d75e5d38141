"""What the machine has besides slots: GPUs, memory and CPUs, and who gets them.

Slots are counted by the pool, as each worker with work takes one or more; here they come in as a
number.
"""

from __future__ import annotations

from collections.abc import Iterable

from alamo.core.terms import GPU_PARTS, Binding, Grant, Need


class Kept:
    """What is set aside for elements that wait longer: nobody younger gets it.

    Attributes:
        gpus: indices of GPUs of which nothing is given away.
        blocks_cores: somebody older lacks cores, so that all free ones are kept.
    """

    __slots__ = ("blocks_cores", "cores", "cpus", "gpus", "memory_bytes")

    def __init__(self) -> None:
        self.cores = 0
        self.blocks_cores = False
        self.gpus: set[int] = set()
        self.memory_bytes = 0
        self.cpus: set[int] = set()

    def touches(self, need: Need) -> bool:
        """Whether the need is for something of which a part is kept."""
        return bool(
            self.blocks_cores
            or (self.gpus and need.gpu_parts)
            or (self.memory_bytes and need.memory_bytes)
            or (self.cpus and (need.pinned or need.cpus))
        )


_NOTHING = Kept()


class Resources:
    """Counts what is free and chooses what is given.

    Attributes:
        gpus: thousandths in use, a GPU; its index is its place in the machine.

    Example:
        >>> r = Resources(); r.found(gpus=1, memory_bytes=100, cpus=())
        >>> grant = r.grant(Need(gpu_parts=600), free_cores=1); grant.gpus
        ((0, 600),)
        >>> r.grant(Need(gpu_parts=600), free_cores=1), r.lacking(Need(gpu_parts=600), 1)
        (None, [('GPUs', 600, 400)])
    """

    def __init__(self) -> None:
        self.gpus: list[int] = []
        self.memory_bytes = 0
        self.memory_used = 0
        self.cpus: tuple[int, ...] = ()
        self._taken_cpus: set[int] = set()

    def found(self, gpus: int, memory_bytes: int, cpus: Iterable[int]) -> None:
        """Say what the machine has; what is in use stays so."""
        self.gpus += [0] * (gpus - len(self.gpus))
        self.memory_bytes = memory_bytes
        self.cpus = tuple(sorted(cpus))

    def _choice(self, need: Need) -> list[int]:
        """Indices of the GPUs that will do."""
        n = len(self.gpus)
        return (
            [i for i in sorted(set(need.gpu_choice)) if i < n] if need.gpu_choice else [*range(n)]
        )

    def can_ever(self, need: Need, slots: int) -> bool:
        """Whether the machine has what is needed, were nothing in use."""
        return (
            need.cores <= slots
            and need.memory_bytes <= self.memory_bytes
            and _gpu_count(need) <= len(self._choice(need))
            and set(need.cpus) <= set(self.cpus)
            and (not need.pinned or bool(need.cpus) or need.cores <= len(self.cpus))
        )

    def grant(
        self,
        need: Need,
        free_cores: int,
        kept: Kept = _NOTHING,
        binding: Binding | None = None,
    ) -> Grant | None:
        """Take what is needed, all or nothing.

        Args:
            free_cores: slots not in use.
            kept: what is not to be given.
            binding: give exactly what a worker was started for.

        Returns:
            What was taken, or ``None`` where that is not to be had.

        Cost: O(GPUs + CPUs).
        """
        if need.cores > free_cores - kept.cores:
            return None
        if binding is not None and binding.cores != need.cores:
            return None
        if need.memory_bytes > self.memory_bytes - self.memory_used - kept.memory_bytes:
            return None
        gpus = self._choose_gpus(need, kept.gpus, binding)
        cpus = self._choose_cpus(need, kept.cpus, binding)
        if gpus is None or cpus is None:
            return None
        for index, parts in gpus:
            self.gpus[index] += parts
        self.memory_used += need.memory_bytes
        self._taken_cpus.update(cpus)
        return Grant(need.cores, gpus, need.memory_bytes, cpus)

    def release(self, grant: Grant) -> None:
        """Give back what was taken."""
        for index, parts in grant.gpus:
            self.gpus[index] -= parts
        self.memory_used -= grant.memory_bytes
        self._taken_cpus.difference_update(grant.cpus)

    def _choose_gpus(
        self, need: Need, kept: set[int], binding: Binding | None
    ) -> tuple[tuple[int, int], ...] | None:
        """Pairs (index, thousandths): a share lies on the GPU that it fills best."""
        if not need.gpu_parts:
            return () if binding is None or not binding.gpus else None
        count = _gpu_count(need)
        each = min(need.gpu_parts, GPU_PARTS)
        fits = [i for i in self._choice(need) if i not in kept and self.gpus[i] + each <= GPU_PARTS]
        if binding is not None:
            if len(binding.gpus) != count or not set(binding.gpus) <= set(fits):
                return None
            fits = list(binding.gpus)
        elif count == 1:
            fits.sort(key=lambda i: -self.gpus[i])
        if len(fits) < count:
            return None
        return tuple([(i, each) for i in fits[:count]])

    def _choose_cpus(
        self, need: Need, kept: set[int], binding: Binding | None
    ) -> tuple[int, ...] | None:
        wanted: tuple[int, ...] = need.cpus
        if not wanted and not need.pinned:
            return () if binding is None or not binding.cpus else None
        free = [i for i in self.cpus if i not in self._taken_cpus and i not in kept]
        if binding is not None:
            if len(binding.cpus) != (len(wanted) or need.cores) or (
                wanted and set(wanted) != set(binding.cpus)
            ):
                return None
            wanted = binding.cpus
        if not wanted:
            return tuple(free[: need.cores]) if len(free) >= need.cores else None
        return wanted if set(wanted) <= set(free) else None

    def keep(self, need: Need, free_cores: int, kept: Kept) -> list[str]:
        """Set aside what there is for a need that cannot be met yet.

        Cores come last: they are collected only when nothing else is lacking, so that none
        idles while its element waits for a GPU.

        Returns:
            What is lacking, in the words of ``lacking``.
        """
        lacks = [kind for kind, _, _ in self.lacking(need, free_cores, kept)]
        if need.gpu_parts:
            choice = [i for i in self._choice(need) if i not in kept.gpus]
            choice.sort(key=lambda i: self.gpus[i])
            kept.gpus.update(choice[: _gpu_count(need)])
        kept.memory_bytes += need.memory_bytes
        if need.cpus:
            kept.cpus.update(need.cpus)
        elif need.pinned:
            free = [i for i in self.cpus if i not in self._taken_cpus and i not in kept.cpus]
            kept.cpus.update(free[: need.cores])
        if all(kind == "cores" for kind in lacks):
            kept.blocks_cores = kept.blocks_cores or "cores" in lacks
            kept.cores += need.cores
        return lacks

    def lacking(
        self, need: Need, free_cores: int, kept: Kept = _NOTHING
    ) -> list[tuple[str, int, int]]:
        """What is missing now: (kind, wanted, free), with kind one of "cores", "GPUs" (counted in
        thousandths, those that would do), "memory" (bytes) and "CPUs"."""
        lacks = []
        cores = max(0, free_cores - kept.cores)
        if need.cores > cores:
            lacks.append(("cores", need.cores, cores))
        if self._choose_gpus(need, kept.gpus, None) is None:
            left = [GPU_PARTS - self.gpus[i] for i in self._choice(need) if i not in kept.gpus]
            if need.gpu_parts < GPU_PARTS:
                free = max(left, default=0)
            else:
                free = GPU_PARTS * left.count(GPU_PARTS)
            lacks.append(("GPUs", need.gpu_parts, free))
        memory = self.memory_bytes - self.memory_used - kept.memory_bytes
        if need.memory_bytes > memory:
            lacks.append(("memory", need.memory_bytes, max(0, memory)))
        if self._choose_cpus(need, kept.cpus, None) is None:
            unused = set(need.cpus or self.cpus) & set(self.cpus) - self._taken_cpus - kept.cpus
            lacks.append(("CPUs", len(need.cpus) or need.cores, len(unused)))
        return lacks

    def check(self, grants: Iterable[Grant]) -> None:
        """Assert that what is in use is what has been granted, and no more than there is."""
        gpus, memory, cpus = [0] * len(self.gpus), 0, list[int]()
        for grant in grants:
            for index, parts in grant.gpus:
                gpus[index] += parts
            memory += grant.memory_bytes
            cpus += grant.cpus
        assert gpus == self.gpus, (gpus, self.gpus)
        assert all(parts <= GPU_PARTS for parts in gpus)
        assert memory == self.memory_used <= self.memory_bytes
        assert sorted(cpus) == sorted(self._taken_cpus)


def _gpu_count(need: Need) -> int:
    """On how many GPUs the need lies."""
    return -(-need.gpu_parts // GPU_PARTS)


def suits(binding: Binding, need: Need) -> bool:
    """Whether a worker that was started for the binding could run what has this need."""
    gpus, cpus = binding.gpus, binding.cpus
    if need.cpus or not need.pinned:
        fits_cpus = set(cpus) == set(need.cpus)
    else:
        fits_cpus = len(cpus) == need.cores
    return (
        binding.cores == need.cores
        and len(gpus) == _gpu_count(need)
        and (not need.gpu_choice or set(gpus) <= set(need.gpu_choice))
        and fits_cpus
    )


def binding_of(grant: Grant) -> Binding:
    """What a worker is started for that gets this."""
    return Binding(grant.cores, tuple([index for index, _ in grant.gpus]), grant.cpus)
