/** The backend on the libnvmm for Linux, for the tests of this folder. */
import { type NvmmBackend, type NvmmOptions, openNvmm } from "../../../../src/backends/nvmm/backend.ts";
import { Host } from "../../../../src/host.ts";
import {
  openPeer,
  PEER_SYSTEMS,
  type Peer,
  type PeerSystem,
  peerLibrary,
  peerMissing,
} from "../../../peers/libnvmm/build.ts";

export { PEER_SYSTEMS, type PeerSystem };

/** Why every test here is skipped, ready to be put behind a name; empty when none is. */
export const missing = peerMissing();
export const skipped = missing === undefined ? "" : ` (skipped: ${missing})`;

export interface Rig {
  readonly system: PeerSystem;
  readonly library: string;
  readonly peer: Peer;
  readonly backend: NvmmBackend;
  readonly host: Host;
}

/**
 * @param copy A name for a library of its own, where a test sets options or reads counters: test files share a process.
 */
export function openRig(system: PeerSystem, copy: string, policy: NvmmOptions["policy"] = {}): Rig {
  const library = peerLibrary(system, copy);
  const peer = openPeer(library);
  const backend = openNvmm({ library, policy });
  return { system, library, peer, backend, host: new Host(backend) };
}
