import { VmmError } from "../errors.ts";

/** A command line or machine description that cannot be meant: status 64. */
export class UsageError extends VmmError {
  override name = "UsageError";
  /** The option or field to blame, e.g. `--memory`. */
  readonly option: string | undefined;

  constructor(message: string, remedy: string, option?: string) {
    super(message, { remedy });
    this.option = option;
  }
}
