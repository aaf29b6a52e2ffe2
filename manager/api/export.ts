import { type ExportServer, ExportService } from '#proto/gen/gear/v1/export.ts';
import type { StoreExport } from '../export/export.ts';
import type { Handlers } from './handlers.ts';

/** The export service of export.proto. */
export function exportService(storeExport: Pick<StoreExport, 'describe'>, handlers: Handlers): ExportServer {
  return { describeExport: handlers.unary(ExportService.describeExport, async () => storeExport.describe()) };
}
