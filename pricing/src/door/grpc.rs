//! `pulso.v1.PricingService`.

use pulso_proto::v1;
use pulso_proto::v1::pricing_service_server::PricingService;
use tonic::{Request, Response, Status};

use super::intake::{Intake, Refusal};

/// Takes pushes.
pub(super) struct Pushes {
    pub(super) intake: Intake,
}

#[tonic::async_trait]
impl PricingService for Pushes {
    async fn push_usage(
        &self,
        request: Request<v1::PushUsageRequest>,
    ) -> Result<Response<v1::PushUsageResponse>, Status> {
        let update = request.into_inner().update.unwrap_or_default();
        let taken = self.intake.take(&update).map_err(|refusal| status(&refusal))?;
        Ok(Response::new(v1::PushUsageResponse { taken }))
    }
}

fn status(refusal: &Refusal) -> Status {
    let sentence = refusal.to_string();
    match refusal {
        Refusal::NeedsUpgrade(_) => Status::failed_precondition(sentence),
        Refusal::Invalid(_) => Status::invalid_argument(sentence),
        Refusal::Full => Status::resource_exhausted(sentence),
    }
}
