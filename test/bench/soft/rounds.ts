/** What a guest says on port 0xe9: `<` when a round starts, `>` when it ends, eight digits and a newline, `.` at the end. */
export class RoundListener {
  done = false;
  readonly #report: (line: string) => void;
  #started = 0;
  #nanoseconds = 0;
  #digits = "";

  constructor(report: (line: string) => void) {
    this.#report = report;
  }

  byte(value: number): void {
    if (value === START) this.#started = Bun.nanoseconds();
    else if (value === END) {
      this.#nanoseconds = Bun.nanoseconds() - this.#started;
      this.#digits = "";
    } else if (value === NEWLINE) this.#report(`${Math.round(this.#nanoseconds)} ${this.#digits}`);
    else if (value === STOP) this.done = true;
    else this.#digits += String.fromCharCode(value);
  }
}

const [START, END, NEWLINE, STOP] = [0x3c, 0x3e, 0x0a, 0x2e];
