import { openSoft } from "../../../../src/backends/soft/backend.ts";
import { Host } from "../../../../src/host.ts";
import { contract } from "../../../contract/contract.ts";

contract({ name: "soft", host: new Host(openSoft()), missing: undefined, reopen: () => new Host(openSoft()) });
