/**
 * struct(): one declaration of a C layout gives its size, its offsets and a typed view over bytes.
 *
 * Offsets are written down as the C compiler lays them out (a test asks it), never computed, so that a wrong one is a
 * failing test and not a shifted tail. Views read and write in place, little-endian, and copy nothing.
 */

/** A scalar's C type. `u64n` and `ptr` are 64 bits read as a JavaScript number. */
export type ScalarKind = "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "u64n" | "ptr";

/** One member: where it is, how large it is, and what a view gives for it. */
export interface Field<Value, Writable extends boolean> {
  readonly kind: ScalarKind | "array" | "nested" | "structs" | "flexible";
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes; 0 for a flexible array member. */
  readonly size: number;
  /** Elements, for arrays. */
  readonly count?: number;
  /** Scalar kind of an array's elements. */
  readonly element?: ScalarKind;
  /** Layout of a nested struct, or of each element. */
  readonly layout?: Struct<Fields>;
  /** Phantoms: only types. */
  readonly value?: Value;
  readonly writable?: Writable;
}

// biome-ignore lint/suspicious/noExplicitAny: any member value; the view type recovers it by inference
export type Fields = Readonly<Record<string, Field<any, boolean>>>;

type WritableNames<F extends Fields> = {
  [K in keyof F]: F[K] extends Field<infer _, infer W> ? (W extends true ? K : never) : never;
}[keyof F];
type ValueOf<T> = T extends Field<infer V, boolean> ? V : never;
type Members<F extends Fields> = { [K in WritableNames<F>]: ValueOf<F[K]> } & {
  readonly [K in Exclude<keyof F, WritableNames<F>>]: ValueOf<F[K]>;
};

/** What `S.view()` and `S.alloc()` return: scalars are read and written, arrays and nested structs are live views. */
export type View<S> = S extends Struct<infer F> ? StructView & Members<F> : never;

/** Offset and size of one member, by its path (`"io.port"`). */
export interface Place {
  readonly offset: number;
  readonly size: number;
}

export interface Struct<F extends Fields> {
  /** C tag (`kvm_run`), or for an unnamed member struct its path in one (`kvm_run.io`). */
  readonly name: string;
  /** sizeof, bytes; a flexible array member counts 0. */
  readonly size: number;
  readonly fields: F;
  /** Every member by path, nested ones dotted and `structs()` elements as `name[0]`. */
  readonly offsets: Readonly<Record<string, Place>>;
  /**
   * A view in place.
   * @throws {RangeError} when fewer than `size` bytes are there, or the declaration has a member outside the struct.
   */
  view(data: DataView | Uint8Array, byteOffset?: number): View<Struct<F>>;
  /** A view over fresh zeroed memory with room for `flexibleCount` elements of the flexible array member. */
  alloc(flexibleCount?: number): View<Struct<F>>;
}

const SCALAR_SIZE: Record<ScalarKind, number> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  i8: 1,
  i16: 2,
  i32: 4,
  i64: 8,
  u64n: 8,
  ptr: 8,
};

interface ScalarConstructor<Kind extends ScalarKind, Value> {
  (offset: number): Field<Value, true>;
  readonly kind: Kind;
}

function scalar<Kind extends ScalarKind, Value>(kind: Kind): ScalarConstructor<Kind, Value> {
  const make = (offset: number): Field<Value, true> => ({ kind, offset, size: SCALAR_SIZE[kind] });
  return Object.assign(make, { kind });
}

export const u8 = scalar<"u8", number>("u8");
export const u16 = scalar<"u16", number>("u16");
export const u32 = scalar<"u32", number>("u32");
/** 64 bits as a bigint. */
export const u64 = scalar<"u64", bigint>("u64");
export const i8 = scalar<"i8", number>("i8");
export const i16 = scalar<"i16", number>("i16");
export const i32 = scalar<"i32", number>("i32");
export const i64 = scalar<"i64", bigint>("i64");
/** 64 unsigned bits as a number, exact up to 2^53: guest-physical addresses (at most 52 bits), sizes, file offsets. */
export const u64n = scalar<"u64n", number>("u64n");
/** A user-space pointer as a number: at most 57 bits in the ABI, 47 in what mmap hands out, so exact. */
export const ptr = scalar<"ptr", number>("ptr");

interface TypedArrays {
  u8: Uint8Array;
  u16: Uint16Array;
  u32: Uint32Array;
  u64: BigUint64Array;
  i8: Int8Array;
  i16: Int16Array;
  i32: Int32Array;
  i64: BigInt64Array;
}
type ElementKind = keyof TypedArrays;

const TYPED_ARRAY = {
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  u64: BigUint64Array,
  i8: Int8Array,
  i16: Int16Array,
  i32: Int32Array,
  i64: BigInt64Array,
} as const;

/** A fixed run of bytes: also C's multi-dimensional u8 arrays and char arrays, flat. */
export function bytes(offset: number, count: number): Field<Uint8Array, false> {
  return array(offset, count, u8);
}

/** A fixed array of scalars, seen as a typed array in place; its address must be aligned to the element. */
export function array<K extends ElementKind>(
  offset: number,
  count: number,
  element: ScalarConstructor<K, unknown>,
): Field<TypedArrays[K], false> {
  return { kind: "array", offset, size: count * SCALAR_SIZE[element.kind], count, element: element.kind };
}

/** A struct inside the struct. Members of a C union are nested structs at one offset. */
export function nested<F extends Fields>(offset: number, layout: Struct<F>): Field<View<Struct<F>>, false> {
  return { kind: "nested", offset, size: layout.size, layout: layout as unknown as Struct<Fields> };
}

/** A fixed array of structs, seen as a JavaScript array of views. */
export function structs<F extends Fields>(
  offset: number,
  count: number,
  layout: Struct<F>,
): Field<readonly View<Struct<F>>[], false> {
  return { kind: "structs", offset, size: count * layout.size, count, layout: layout as unknown as Struct<Fields> };
}

/** A flexible array member: as many elements as the viewed bytes have room for. */
export function flexible<F extends Fields>(
  offset: number,
  element: Struct<F>,
): Field<readonly View<Struct<F>>[], false>;
export function flexible<K extends ElementKind>(
  offset: number,
  element: ScalarConstructor<K, unknown>,
): Field<TypedArrays[K], false>;
export function flexible(
  offset: number,
  element: Struct<Fields> | ScalarConstructor<ElementKind, unknown>,
): Field<unknown, false> {
  if ("kind" in element) return { kind: "flexible", offset, size: 0, element: element.kind };
  return { kind: "flexible", offset, size: 0, layout: element };
}

/** What every view is; its members come from the declaration. */
export class StructView {
  /** The memory under the view. Not for use outside this file: see {@link bytesOf}. */
  readonly $data: DataView;
  /** Where the struct starts in `$data`. */
  readonly $base: number;
  /** Nested views and typed arrays already made, by field index. */
  readonly $made: unknown[] = [];

  constructor(data: DataView, base: number) {
    this.$data = data;
    this.$base = base;
  }
}

/** The bytes under a view, in place: the struct and, if it has one, its whole flexible array member. */
export function bytesOf(view: StructView): Uint8Array<ArrayBuffer> {
  const { layout, hasTail } = view.constructor as ViewClass;
  const { buffer, byteOffset, byteLength } = view.$data;
  const length = hasTail ? byteLength - view.$base : layout.size;
  return new Uint8Array(buffer as ArrayBuffer, byteOffset + view.$base, length);
}

/** The declaration a view was made from. */
export function layoutOf(view: StructView): Struct<Fields> {
  return (view.constructor as ViewClass).layout;
}

/** A plain copy of what a view shows: nested objects, arrays of objects, copied typed arrays. */
export function plainOf(view: StructView): Record<string, unknown> {
  const from = view as unknown as Record<string, unknown>;
  return Object.fromEntries(Object.keys(layoutOf(view).fields).map((name) => [name, plainValue(from[name])]));
}

function plainValue(value: unknown): unknown {
  if (value instanceof StructView) return plainOf(value);
  if (Array.isArray(value)) return value.map(plainValue);
  if (ArrayBuffer.isView(value)) return (value as Uint8Array).slice();
  return value;
}

/**
 * Declares a layout. What it says is looked at when it is first used: a start declares a hundred and uses fifteen.
 *
 * @param name C tag, or `tag.member` for an unnamed struct that is a member of one.
 * @param size sizeof in bytes.
 */
export function struct<const F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  return new Layout(name, size, fields);
}

class Layout<F extends Fields> implements Struct<F> {
  readonly name: string;
  readonly size: number;
  readonly fields: F;
  #offsets: Readonly<Record<string, Place>> | undefined;
  #View: ViewClass | undefined;

  constructor(name: string, size: number, fields: F) {
    this.name = name;
    this.size = size;
    this.fields = fields;
  }

  get offsets(): Readonly<Record<string, Place>> {
    this.#offsets ??= placesOf(this.fields);
    return this.#offsets;
  }

  view(data: DataView | Uint8Array, byteOffset = 0): View<Struct<F>> {
    const room = data.byteLength - byteOffset;
    if (byteOffset < 0 || room < this.size) {
      throw new RangeError(
        `Cannot view "${this.name}" as it has ${this.size} bytes: only ${room} bytes at offset ${byteOffset}`,
      );
    }
    this.#View ??= viewClass(this as unknown as Struct<Fields>);
    // A DataView is one already; a Uint8Array is covered by one of the same extent.
    const over = data instanceof DataView ? data : new DataView(data.buffer, data.byteOffset, data.byteLength);
    return new this.#View(over, byteOffset) as View<Struct<F>>;
  }

  alloc(flexibleCount = 0): View<Struct<F>> {
    const flexibleField = flexibleFieldOf(this.fields);
    if (flexibleCount !== 0 && flexibleField === undefined) {
      throw new RangeError(`Cannot allocate ${flexibleCount} elements as "${this.name}" has no flexible array member`);
    }
    const tail = flexibleField === undefined ? 0 : flexibleField.offset + flexibleCount * elementSize(flexibleField);
    return this.view(new DataView(new ArrayBuffer(Math.max(this.size, tail))));
  }
}

function flexibleFieldOf(fields: Fields): Field<unknown, boolean> | undefined {
  return Object.values(fields).find((field) => field.kind === "flexible");
}

function elementSize(field: Field<unknown, boolean>): number {
  return field.layout?.size ?? SCALAR_SIZE[field.element ?? "u8"];
}

function placesOf(fields: Fields): Record<string, Place> {
  const places: Record<string, Place> = {};
  for (const [name, field] of Object.entries(fields)) {
    places[name] = { offset: field.offset, size: field.size };
    if (field.layout === undefined) continue;
    const prefix = field.kind === "nested" ? name : `${name}[0]`;
    for (const [path, inner] of Object.entries(field.layout.offsets)) {
      places[`${prefix}.${path}`] = { offset: field.offset + inner.offset, size: inner.size };
    }
  }
  return places;
}

interface ViewClass {
  new (data: DataView, base: number): StructView;
  readonly layout: Struct<Fields>;
  /** Whether a flexible array member goes on behind `layout.size`. */
  readonly hasTail: boolean;
}

type MakeMember = (view: StructView, index: number) => unknown;

/**
 * Makes the class of a struct's views, on first use. It is generated as source so that each accessor is a function of its own
 * with its offset as a literal, which the JIT inlines; closures over an offset would share one function, and one
 * inline cache, among all structs. Only names and numbers from our own declarations enter the source.
 */
function viewClass(layout: Struct<Fields>): ViewClass {
  const members = Object.entries(layout.fields).map(([name, field], index) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw new TypeError(`Cannot declare "${name}" as it is no C identifier`);
    if (field.offset < 0 || field.offset + field.size > layout.size) {
      throw new RangeError(
        `Cannot declare "${layout.name}.${name}" as it ends past the ${layout.size} bytes of the struct`,
      );
    }
    return field.kind in SCALAR_SIZE
      ? scalarSource(name, field.kind as ScalarKind, Number(field.offset))
      : `get ${name}() { return this.$made[${index}] ?? makeMember(this, ${index}); }`;
  });
  const source = `return class extends StructView { static layout = layout; static hasTail = hasTail; ${members.join("\n")} };`;
  const fields = Object.values(layout.fields);
  const makeMember: MakeMember = (view, index) => {
    const made = memberView(view, fields[index] as Field<unknown, boolean>);
    view.$made[index] = made;
    return made;
  };
  const hasTail = flexibleFieldOf(layout.fields) !== undefined;
  return new Function("StructView", "layout", "hasTail", "makeMember", source)(StructView, layout, hasTail, makeMember);
}

const ACCESSOR: Record<Exclude<ScalarKind, "u64n" | "ptr">, string> = {
  u8: "Uint8",
  u16: "Uint16",
  u32: "Uint32",
  u64: "BigUint64",
  i8: "Int8",
  i16: "Int16",
  i32: "Int32",
  i64: "BigInt64",
};

function scalarSource(name: string, kind: ScalarKind, offset: number): string {
  const at = `this.$base + ${offset}`;
  if (kind !== "u64n" && kind !== "ptr") {
    const accessor = ACCESSOR[kind];
    return `get ${name}() { return this.$data.get${accessor}(${at}, true); }
      set ${name}(value) { this.$data.set${accessor}(${at}, value, true); }`;
  }
  // Two halves, as a BigInt costs an allocation; `| 0` takes the low 32 bits, and unlike a fraction keeps the JIT on integers.
  return `get ${name}() {
      return this.$data.getUint32(${at}, true) + this.$data.getUint32(${at} + 4, true) * 4294967296;
    }
    set ${name}(value) {
      this.$data.setInt32(${at}, value | 0, true);
      this.$data.setInt32(${at} + 4, (value / 4294967296) | 0, true);
    }`;
}

function memberView(view: StructView, field: Field<unknown, boolean>): unknown {
  const { $data: data, $base: base } = view;
  const start = base + field.offset;
  const { layout } = field;
  if (field.kind === "nested" && layout !== undefined) return layout.view(data, start);
  const count = field.count ?? Math.floor((data.byteLength - start) / elementSize(field));
  if (layout !== undefined) {
    return Object.freeze(Array.from({ length: count }, (_, i) => layout.view(data, start + i * layout.size)));
  }
  const Elements = TYPED_ARRAY[field.element as ElementKind];
  return new Elements(data.buffer as ArrayBuffer, data.byteOffset + start, count);
}
