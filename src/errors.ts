/** What went wrong with an error, and what to do about it. */
export interface ErrorDetail {
  /** What the reader can do next, one sentence without a final period. */
  readonly remedy: string;
  readonly cause?: unknown;
}

/** Root of every error that vmexit throws for a reason outside the caller's arguments. */
export class VmmError extends Error {
  override name = "VmmError";
  /** What the reader can do next. Also the tail of the message. */
  readonly remedy: string;

  constructor(message: string, detail: ErrorDetail) {
    super(`${message}: ${detail.remedy}`, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.remedy = detail.remedy;
  }
}

/** A system or hypervisor library call that failed. */
export class SyscallError extends VmmError {
  override name = "SyscallError";
  /** The call as a reader would look it up, e.g. `ioctl(KVM_CREATE_VM)` or `open(/dev/kvm)`. */
  readonly call: string;
  /** The host's number, e.g. 13. */
  readonly errno: number;
  /** Its name, e.g. `EACCES`. */
  readonly code: string;

  constructor(call: string, failure: { errno: number; code: string }, detail: ErrorDetail & { by?: string }) {
    super(
      `Cannot complete ${call} as ${detail.by ?? "the kernel"} returned ${failure.code} (${failure.errno})`,
      detail,
    );
    this.call = call;
    this.errno = failure.errno;
    this.code = failure.code;
  }
}

/** No backend can run on this host, or the one asked for cannot. */
export class BackendError extends VmmError {
  override name = "BackendError";
  /** The backend asked for, or `auto`. */
  readonly backend: string;

  constructor(backend: string, message: string, detail: ErrorDetail) {
    super(message, detail);
    this.backend = backend;
  }
}

/** Something asked of a backend that it cannot do. */
export class CapabilityError extends VmmError {
  override name = "CapabilityError";
  readonly backend: string;
  /** What is missing, in the backend's own term, e.g. `KVM_CAP_X86_MSR_FILTER`. */
  readonly capability: string;

  constructor(backend: string, capability: string, detail: ErrorDetail) {
    super(`Cannot use ${capability} on the ${backend} backend`, detail);
    this.backend = backend;
    this.capability = capability;
  }
}

/** A device mapping that a bus refuses. */
export class BusError extends VmmError {
  override name = "BusError";
  readonly bus: string;
  readonly device: string;
  /** The device already there, when two overlap. */
  readonly other: string | undefined;

  constructor(bus: string, device: string, message: string, detail: ErrorDetail & { other?: string }) {
    super(message, detail);
    this.bus = bus;
    this.device = device;
    this.other = detail.other;
  }
}

/** An access to, or a change of, guest-physical memory that is not possible. */
export class MemoryError extends VmmError {
  override name = "MemoryError";
  /** Guest-physical address in bytes. */
  readonly gpa: number;
  readonly bytes: number;

  constructor(message: string, where: { gpa: number; bytes: number }, detail: ErrorDetail) {
    super(message, detail);
    this.gpa = where.gpa;
    this.bytes = where.bytes;
  }
}

/** A guest file or machine description that cannot be used. */
export class GuestError extends VmmError {
  override name = "GuestError";
  /** The path, or what stands for it, e.g. `<source>`. */
  readonly file: string;
  /** The field that is wrong, e.g. `e_phoff`, when one is to blame. */
  readonly field: string | undefined;

  constructor(file: string, message: string, detail: ErrorDetail & { field?: string }) {
    super(message, detail);
    this.file = file;
    this.field = detail.field;
  }
}

/** A guest state that no processor would enter, found before or after the engine refused it. */
export class GuestStateError extends VmmError {
  override name = "GuestStateError";
  /** One entry per broken rule. */
  readonly violations: readonly { readonly what: string; readonly rule: string }[];

  constructor(violations: readonly { what: string; rule: string }[], detail: ErrorDetail) {
    super(`Cannot enter the guest: ${violations.map((v) => `${v.what} (${v.rule})`).join("; ")}`, detail);
    this.violations = violations;
  }
}

/** A use of something already disposed. */
export class DisposedError extends VmmError {
  override name = "DisposedError";
  readonly what: string;

  constructor(what: string) {
    super(`Cannot use the ${what} after it was disposed`, {
      remedy: "keep it alive for as long as it is used, for example with 'using' in the outer scope",
    });
    this.what = what;
  }
}

/** A device or callback that threw while it answered an exit. The original is the `cause`. */
export class DeviceError extends VmmError {
  override name = "DeviceError";
  readonly device: string;

  constructor(device: string, access: string, cause: unknown) {
    super(`Device "${device}" threw on ${access}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      remedy: "the exit stays pending: answer it yourself or run again to read all ones",
      cause,
    });
    this.device = device;
  }
}

/** Makes a forgotten member of a union a compile error, and a named error should one arrive at run time. */
export function unreachable(value: never): never {
  throw new TypeError(`Unexpected value: ${JSON.stringify(value)}`);
}
